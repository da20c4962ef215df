//! Three load balancers in front of a real PostgreSQL: HAProxy on each, and one address that
//! clients connect to, looked after by the daemon or by keepalived as people set it up.

#![allow(clippy::print_stdout, reason = "what people would read is shown")]

use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::{pause, wait_until};
use crate::peer::keepalived::{self, Instance};
use crate::peer::{haproxy, postgresql};
use crate::trio::{Daemon, GROUP, Kind, Trio, VIP};
use crate::{Error, Host, Proc, Result, Stamp};

/// Where the load balancers listen.
pub const PORT: u16 = 5000;
/// The database.
pub const DATABASE: &str = "192.168.34.140";

/// What the load balancers pass clients on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// PostgreSQL.
    Plain,
    /// `PgBouncer` in front of PostgreSQL, where HAProxy asks Patroni who is the primary.
    Pooled,
}

/// The stack. What was started later ends earlier.
#[derive(Debug)]
pub struct Front {
    /// HAProxy on each host, while it runs.
    pub proxies: [Option<Proc>; 3],
    /// PostgreSQL, or Patroni and then the pooler.
    pub database: Vec<Proc>,
    /// Its host.
    pub db: Host,
    tier: Tier,
    preempts: bool,
    /// The hosts of the load balancers, and their daemons.
    pub trio: Trio,
}

impl Front {
    /// Everything but the daemons, and every proxy serves.
    pub fn new(label: &str, kind: Kind, tier: Tier) -> Result<Self> {
        let trio = Trio::new(label, kind)?;
        let db = trio.lab.host("db", &[&format!("{DATABASE}/24")])?;
        let database = match tier {
            Tier::Plain => vec![postgresql::start(&db)?],
            Tier::Pooled => vec![postgresql::start_patroni(&db)?, postgresql::start_pooler(&db)?],
        };
        let mut front =
            Self { proxies: [None, None, None], database, db, tier, preempts: false, trio };
        for n in 0..3 {
            front.start_proxy(n)?;
        }
        for n in 0..3 {
            let at = SocketAddr::from(([127, 0, 0, 1], PORT));
            wait_until("a proxy that serves", Duration::from_secs(10), || {
                postgresql::lets_in(&front.trio.hosts[n], at)
            })?;
        }
        Ok(front)
    }

    /// Starts HAProxy on host number `n`, and waits until it listens.
    pub fn start_proxy(&mut self, n: usize) -> Result {
        let host = &self.trio.hosts[n];
        let socket = haproxy::socket(host);
        let server = match self.tier {
            Tier::Plain => format!("    server pg {DATABASE}:{}", postgresql::PORT),
            Tier::Pooled => format!(
                "    option httpchk OPTIONS /primary\n    server pg {DATABASE}:{} check port {}",
                postgresql::POOLER,
                postgresql::PATRONI
            ),
        };
        let text = format!(
            "global\n    stats socket {} mode 600 level admin\n\
             defaults\n    mode tcp\n    timeout connect 1s\n    timeout check 1s\n    \
             timeout client 30m\n    timeout server 30m\n\
             frontend writes\n    bind :{PORT}\n    default_backend production\n\
             backend production\n{server} check inter 1s fall 2 rise 1\n",
            socket.display()
        );
        // One that is there belongs to a predecessor.
        let _ = std::fs::remove_file(&socket);
        let config = host.write("haproxy.cfg", &text)?;
        let command = haproxy::command(&config);
        let proxy = host.spawn("haproxy", &command.each_ref().map(String::as_str))?;
        host.write("haproxy.pid", &proxy.pid().to_string())?;
        self.proxies[n] = Some(proxy);
        wait_until("HAProxy's socket", Duration::from_secs(5), || Ok(socket.exists()))?;
        Ok(())
    }

    /// HAProxy on host number `n`.
    ///
    /// # Panics
    /// If none runs there.
    pub fn proxy(&self, n: usize) -> &Proc {
        self.proxies[n].as_ref().expect("a proxy runs there")
    }

    /// The first host is to have the address whenever it can: to be said before daemons start.
    pub const fn prefer_first(&mut self) {
        self.preempts = true;
    }

    /// Starts every daemon: vipd with what `checks` says for each host, and waits until one holds
    /// the address, and all have looked.
    pub fn start(&mut self, checks: impl Fn(&Host) -> String) -> Result<usize> {
        (0..3).try_for_each(|n| self.start_one(n, &checks))?;
        let holder = self.trio.wait_holder(Duration::from_secs(10))?;
        (0..3).try_for_each(|n| self.wait_verdict(n, true))?;
        // Until everybody has heard that of the others.
        pause(Duration::from_secs(1));
        Ok(holder)
    }

    /// Starts vipd on host number `n`.
    pub fn start_one(&mut self, n: usize, checks: impl Fn(&Host) -> String) -> Result {
        let mut text = self.trio.config();
        if self.preempts {
            text += "preempt = true\n";
        }
        let text = format!("{text}\n{}", checks(&self.trio.hosts[n]));
        self.trio.start_with(n, &text)
    }

    /// Starts keepalived on every host, as its users set it up: it looks every second whether the
    /// process is there and the port takes connections.
    pub fn start_keepalived(&mut self) -> Result<usize> {
        (0..3).try_for_each(|n| self.start_one_keepalived(n))?;
        let holder = self.trio.wait_holder(Duration::from_secs(10))?;
        // Two rounds of the script.
        pause(Duration::from_secs(3));
        Ok(holder)
    }

    /// Starts keepalived on host number `n`.
    pub fn start_one_keepalived(&mut self, n: usize) -> Result {
        let host = &self.trio.hosts[n];
        let pid = host.dir().join("haproxy.pid");
        let script = host.write(
            "alive",
            &format!(
                "#!/bin/sh\nkill -0 \"$(cat {})\" && \
                 exec timeout 1 bash -c ': </dev/tcp/127.0.0.1/{PORT}'\n",
                pid.display()
            ),
        )?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).map_err(Error::io("chmod a script"))?;
        let priority = u8::try_from(120 - 10 * n).unwrap_or(1);
        let mut instance = Instance::new(85, priority, &[&format!("{VIP}/24")]);
        instance.preempt = self.preempts;
        let track = format!(
            "vrrp_script alive {{\n  script \"{}\"\n  interval 1\n  timeout 1\n  fall 2\n  \
             rise 2\n}}\nvrrp_instance",
            script.display()
        );
        let tracked = "  track_script {\n    alive\n  }\n  virtual_ipaddress";
        let text = keepalived::config(host.name(), &[instance])
            .replace("global_defs {\n", "global_defs {\n  script_user root\n")
            .replacen("vrrp_instance", &track, 1)
            .replace("  virtual_ipaddress", tracked);
        let process = keepalived::start_with(host, &text)?;
        self.trio.daemons[n] = Some(Daemon::Keepalived(process));
        Ok(())
    }

    /// Whether a client is let in through the address.
    pub fn serves(&self) -> Result<bool> {
        postgresql::lets_in(&self.trio.client, SocketAddr::from((VIP, PORT)))
    }

    /// What happened to the address so far.
    pub fn moves(&self) -> usize {
        self.trio.watch.events().len()
    }

    /// What `vipctl explain` says on host number `n`, with single spaces.
    pub fn explain(&mut self, n: usize) -> Result<String> {
        explain(&mut self.trio, n)
    }

    /// Waits until another host than number `old` holds the address alone; which, and how long
    /// after `from`.
    pub fn moved(&self, old: usize, from: Stamp, within: Duration) -> Result<(usize, Duration)> {
        let new = self.trio.wait_holder_but(Some(old), within)?;
        let took = Stamp::now().since(from);
        let alone = || Ok(self.trio.holders()? == [new]);
        wait_until("one holder", Duration::from_secs(1), alone)?;
        Ok((new, took))
    }

    /// What the first check of host number `n` has found, and its verdict.
    pub fn check(&mut self, n: usize) -> Result<(String, Option<bool>)> {
        let check = &self.trio.vipd(n).status()?["groups"][0]["checks"][0];
        let found = check["found"].as_str().unwrap_or_default().to_owned();
        Ok((found, check["verdict"].as_bool()))
    }

    /// Waits until the first check of host number `n` says so.
    pub fn wait_verdict(&mut self, n: usize, passes: bool) -> Result {
        wait_until("a verdict", Duration::from_secs(10), || {
            Ok(self.check(n).is_ok_and(|(_, verdict)| verdict == Some(passes)))
        })?;
        Ok(())
    }
}

/// What `vipctl explain` says on host number `n`, with single spaces.
pub fn explain(trio: &mut Trio, n: usize) -> Result<String> {
    let said = trio.ctl(n, &["explain", GROUP])?;
    println!("{said}");
    Ok(said.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A person reads all of `parts` in `said`.
///
/// # Panics
/// If not.
#[track_caller]
pub fn says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}
