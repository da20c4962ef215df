//! What a load balancer that lost its power has left on PostgreSQL: its sessions, their locks.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use netns_tests::cluster::{events, said};
use netns_tests::peer::postgresql::{self, PORT, sql};
use netns_tests::run::stdout;
use netns_tests::trio::{GROUP, Kind, Trio};
use netns_tests::{Host, Proc, Result, Stamp, pause, wait_until};

use common::SECOND;

const DATABASE: &str = "192.168.34.10";
/// Who is let in: its owner, by another way than clients.
const RULES: &str = "local all all trust\nhost all all 0.0.0.0/0 scram-sha-256\n";

/// Three hosts whose daemons know the database, and what runs there.
fn scene(label: &str, sessions: Option<&str>) -> Result<(Trio, Host, Proc)> {
    let mut trio = Trio::new(label, Kind::Lease)?;
    let database = trio.lab.host("pg1", &[&format!("{DATABASE}/24")])?;
    let server = postgresql::start_with(&database, RULES)?;
    for role in ["app", "vipd"] {
        sql(&database, &format!("CREATE ROLE {role} LOGIN PASSWORD 'open sesame'"))?;
    }
    let password = trio.lab.dir().join("password");
    fs::write(&password, "open sesame\n").unwrap();
    fs::set_permissions(&password, PermissionsExt::from_mode(0o600)).unwrap();
    let config = sessions.map_or_else(|| trio.config(), |keys| with_sessions(&trio, keys));
    trio.start_all(&config)?;
    Ok((trio, database, server))
}

/// With further `keys`, in which DIR is the directory of the lab.
fn with_sessions(trio: &Trio, keys: &str) -> String {
    let text = format!(
        "\n[sessions]\nservers = [\"{DATABASE}:{PORT}\"]\npassword-file = \"DIR/password\"\n{keys}"
    );
    trio.config() + &text.replace("DIR", &trio.lab.dir().display().to_string())
}

/// A client on `host` that has a lock, and keeps it.
fn client(host: &Host, lock: u32) -> Result<Proc> {
    let wait = format!("SELECT pg_advisory_lock({lock}), pg_sleep(600)");
    let argv = ["psql", "-h", DATABASE, "-U", "app", "-d", "postgres", "-Xc", &wait];
    host.spawn_with(&format!("psql-{lock}"), &argv, &[("PGPASSWORD", "open sesame")])
}

/// Who has locks.
fn locks(database: &Host) -> Result<Vec<String>> {
    let text = sql(database, "SELECT objid FROM pg_locks WHERE locktype = 'advisory' ORDER BY 1")?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// A power loss of the holder, which has two sessions beside one of somebody else.
fn lose_power(trio: &mut Trio, database: &Host) -> Result<(usize, Vec<Proc>, Stamp)> {
    let holder = trio.wait_holder(10 * SECOND)?;
    let clients = vec![
        client(&trio.hosts[holder], 1)?,
        client(&trio.hosts[holder], 2)?,
        client(&trio.hosts[(holder + 1) % 3], 3)?,
    ];
    wait_until("three locks", 10 * SECOND, || Ok(locks(database)?.len() == 3))?;
    let at = Stamp::now();
    trio.power_loss(holder)?;
    Ok((trio.wait_holder_but(Some(holder), 5 * SECOND)?, clients, at))
}

#[test]
fn left_alone_the_locks_of_a_dead_load_balancer_stay() -> Result {
    let (mut trio, database, _server) = scene("ghosts", None)?;
    let _clients = lose_power(&mut trio, &database)?;
    pause(5 * SECOND);
    assert_eq!(locks(&database)?, ["1", "2", "3"]);
    Ok(())
}

#[test]
fn sessions_of_a_dead_load_balancer_are_ended_and_no_others() -> Result {
    let (mut trio, database, _server) = scene("sessions", Some(""))?;
    sql(&database, "GRANT pg_signal_backend, pg_read_all_stats TO vipd")?;
    // A planned move ends none.
    let holder = trio.wait_holder(10 * SECOND)?;
    let _client = client(&trio.hosts[holder], 4)?;
    wait_until("a lock", 10 * SECOND, || Ok(locks(&database)? == ["4"]))?;
    let next = trio.hosts[(holder + 1) % 3].name().to_owned();
    trio.ctl(holder, &["move", GROUP, &next])?;
    pause(4 * SECOND);
    assert_eq!(locks(&database)?, ["4"]);
    sql(&database, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE objid = 4")?;

    let (new, _clients, at) = lose_power(&mut trio, &database)?;
    let freed = wait_until("the locks", 20 * SECOND, || Ok(locks(&database)? == ["3"]))
        .inspect_err(|_| eprintln!("{:#?}", events(trio.vipd(new))))?;
    println!("power loss to locks free: {:.0?}", freed.since(at));
    let said = format!("which is gone, were ended: 2 on {DATABASE}:{PORT}");
    wait_until("what was done", 5 * SECOND, || {
        let all = events(trio.vipd(new))?;
        Ok(all.iter().any(|e| e.kind == "sessions-ended" && e.text.ends_with(&said)))
    })?;
    Ok(())
}

#[test]
fn a_role_that_may_not_is_named_before_and_after() -> Result {
    let (mut trio, database, _server) = scene("may-not", Some(""))?;
    let why =
        format!("{DATABASE}:{PORT}: vipd is no member of pg_read_all_stats and pg_signal_backend");
    let file = trio.lab.dir().join("vipd.toml").display().to_string();
    fs::write(&file, with_sessions(&trio, "")).unwrap();
    let doctor = trio.vipd(0).ctl(&["doctor", &file, "--node", "hap1"])?;
    assert!(!doctor.status.success() && said(&doctor).contains(&why), "{}", said(&doctor));
    let (new, ..) = lose_power(&mut trio, &database)?;
    wait_until("what was not done", 20 * SECOND, || {
        let all = events(trio.vipd(new))?;
        Ok(all.iter().any(|e| e.kind == "sessions-kept" && e.text.contains(&why)))
    })?;
    assert_eq!(locks(&database)?, ["1", "2", "3"]);

    sql(&database, "GRANT pg_signal_backend, pg_read_all_stats TO vipd")?;
    let doctor = said(&trio.vipd(new).ctl(&["doctor", &file, "--node", "hap1"])?);
    assert!(doctor.contains(&format!("vipd may end those on {DATABASE}:{PORT}")), "{doctor}");
    Ok(())
}

/// A server's certificate for its address, and the files of two authorities: only the first signed
/// it. How the files of the server begin.
fn certificates(trio: &Trio, database: &Host) -> Result<String> {
    let dir = trio.lab.dir().display().to_string();
    let server = database.dir().join("postgres/server").display().to_string();
    fs::write(format!("{dir}/ext"), format!("subjectAltName=IP:{DATABASE}\n")).unwrap();
    for line in [
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout DIR/ca.key -out DIR/ca.pem",
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=no -keyout DIR/no.key -out DIR/no.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=pg1 -keyout SERVER.key -out DIR/csr",
        "x509 -req -in DIR/csr -CA DIR/ca.pem -CAkey DIR/ca.key -CAcreateserial -days 2 \
         -extfile DIR/ext -out SERVER.pem",
    ] {
        let words = line.split_whitespace();
        let words = words.map(|word| word.replace("DIR", &dir).replace("SERVER", &server));
        let argv: Vec<_> = std::iter::once("openssl".to_owned()).chain(words).collect();
        stdout(&argv.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    let key = format!("{server}.key");
    stdout(&["chown", "postgres:postgres", &key, &format!("{server}.pem")])?;
    fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    Ok(format!("{server}."))
}

/// From now on the server talks TLS with those who ask for it.
fn encrypt(database: &Host, server: &str) -> Result {
    for setting in [
        format!("ssl_cert_file = '{server}pem'"),
        format!("ssl_key_file = '{server}key'"),
        "ssl = on".to_owned(),
    ] {
        sql(database, &format!("ALTER SYSTEM SET {setting}"))?;
    }
    sql(database, "SELECT pg_reload_conf()").map(drop)
}

/// A server without TLS, or one whose certificate is signed by somebody else, is not even told who
/// asks; with the right one sessions are ended as ever.
#[test]
fn over_tls_only_a_server_that_is_known_is_told_anything() -> Result {
    const TLS: &str = "tls = \"verify\"\nca = \"DIR/ca.pem\"\n";
    let (mut trio, database, server) = scene("tls", Some(TLS))?;
    sql(&database, "GRANT pg_signal_backend, pg_read_all_stats TO vipd")?;
    let files = certificates(&trio, &database)?;
    sql(&database, "ALTER SYSTEM SET log_connections = on")?;
    sql(&database, "SELECT pg_reload_conf()")?;
    wait_until("a log of who connects", 5 * SECOND, || {
        sql(&database, "SELECT 1")?;
        Ok(server.log().contains("user=postgres"))
    })?;
    let text = doctor(&mut trio, TLS)?;
    assert!(text.contains("server does not support TLS"), "{text}");
    encrypt(&database, &files)?;
    wait_until("a server with TLS", 5 * SECOND, || Ok(sql(&database, "SHOW ssl")?.trim() == "on"))
        .inspect_err(|_| eprintln!("{}", server.log()))?;
    let text = doctor(&mut trio, &TLS.replace("ca.pem", "no.pem"))?;
    assert!(text.contains("UnknownIssuer"), "{text}");
    assert!(!server.log().contains("user=vipd"), "{}", server.log());

    let text = doctor(&mut trio, TLS)?;
    assert!(text.contains(&format!("vipd may end those on {DATABASE}:{PORT}")), "{text}");
    let (new, ..) = lose_power(&mut trio, &database)?;
    wait_until("the locks", 20 * SECOND, || Ok(locks(&database)? == ["3"]))
        .inspect_err(|_| eprintln!("{:#?}", events(trio.vipd(new))))?;
    let log = server.log();
    let of_vipd = log.lines().filter(|line| line.contains("authorized: user=vipd"));
    let (over, clear): (Vec<_>, Vec<_>) = of_vipd.partition(|line| line.contains("SSL enabled"));
    assert!(!over.is_empty() && clear.is_empty(), "{over:?} {clear:?}");
    Ok(())
}

/// What `vipctl doctor` says of a file with these keys.
fn doctor(trio: &mut Trio, keys: &str) -> Result<String> {
    let file = trio.lab.dir().join("vipd.toml").display().to_string();
    fs::write(&file, with_sessions(trio, keys)).unwrap();
    Ok(said(&trio.vipd(0).ctl(&["doctor", &file, "--node", "hap1"])?))
}
