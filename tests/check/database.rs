//! PostgreSQL, `PgBouncer` and Patroni as they are packaged.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use vipd::config::{Http, Postgresql, Probe};

use super::proxy::haproxy;
use super::rig::{Dir, Peer, inside, look, look_shortly, until};

const BIN: &str = "/usr/lib/postgresql/15/bin";

fn asked(port: u16, user: &str, database: &str) -> Probe {
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    Probe::Postgresql(Postgresql { address, user: user.into(), database: database.into() })
}

fn as_postgres<'a>(argv: &[&'a str]) -> Vec<&'a str> {
    [&["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"], argv].concat()
}

fn give(path: &Path) {
    let done = Command::new("chown").args(["-R", "postgres:postgres"]).arg(path).status().unwrap();
    assert!(done.success());
}

/// A cluster that asks for passwords, but for two databases that anybody may use.
fn cluster(dir: &Dir) -> String {
    give(&dir.0);
    let data = dir.path("data").to_str().unwrap().to_owned();
    let initdb = format!("{BIN}/initdb");
    let argv = as_postgres(&[&initdb, "-D", &data, "-A", "scram-sha-256", "--no-sync", "-N"]);
    let pwfile = dir.write("password", "secret\n");
    let argv = [&argv[..], &["--pwfile", pwfile.to_str().unwrap()]].concat();
    let done = Command::new(argv[0]).args(&argv[1..]).current_dir("/").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let rules = "host template1,nowhere postgres 127.0.0.1/32 trust\n\
                 host all postgres 127.0.0.1/32 scram-sha-256\n";
    fs::write(dir.path("data/pg_hba.conf"), rules).unwrap();
    data
}

fn postgres(dir: &Dir, data: &str, extra: &[&str]) -> Peer {
    let program = format!("{BIN}/postgres");
    let socket = dir.0.to_str().unwrap();
    let argv = [&program, "-D", data, "-p", "5432", "-k", socket, "-c", "fsync=off"];
    Peer::run(&as_postgres(&[&argv[..], extra].concat()))
}

#[test]
fn postgresql_is_told_from_what_only_accepts() {
    inside(|| async {
        let dir = Dir::new("postgresql");
        let password = asked(5432, "postgres", "postgres");
        let none = look(&password).await.unwrap_err();
        assert_eq!(none, "cannot connect to 127.0.0.1:5432: refused");
        let data = cluster(&dir);
        let peer = postgres(&dir, &data, &[]);
        until(&password, &Ok("127.0.0.1:5432 asks for authentication")).await;
        until(&asked(5432, "postgres", "template1"), &Ok("127.0.0.1:5432 is ready")).await;
        let stranger = Ok("127.0.0.1:5432 answers, but not to this user");
        until(&asked(5432, "vipd", "postgres"), &stranger).await;
        let absent = Err("127.0.0.1:5432: database \"nowhere\" does not exist (3D000)");
        until(&asked(5432, "postgres", "nowhere"), &absent).await;

        // Through the proxy, as clients do.
        let _proxy = haproxy(&dir, "127.0.0.1:5432".parse().unwrap());
        until(&asked(5000, "postgres", "postgres"), &Ok("127.0.0.1:5000 asks for authentication"))
            .await;
        peer.signal(Signal::SIGSTOP);
        let hung = look_shortly(&password).await.unwrap_err();
        let words = "127.0.0.1:5432: it accepted the connection and does not answer within 300ms";
        assert_eq!(hung, words);
        peer.signal(Signal::SIGCONT);
        until(&password, &Ok("127.0.0.1:5432 asks for authentication")).await;
        peer.end(Signal::SIGINT);
        let only = Err("127.0.0.1:5000: it closed the connection without an answer");
        until(&asked(5000, "postgres", "postgres"), &only).await;

        // A standby that lets nobody in, as one that is still starting.
        dir.write("data/standby.signal", "");
        let extra = ["-c", "hot_standby=off", "-c", "restore_command=/bin/false"];
        let peer = postgres(&dir, &data, &extra);
        let starting = async {
            loop {
                match look(&password).await {
                    Err(why) if why.ends_with("(57P03)") => return why,
                    _ => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                }
            }
        };
        let why = tokio::time::timeout(std::time::Duration::from_secs(30), starting).await.unwrap();
        println!("{why}");
        peer.end(Signal::SIGINT);
    });
}

#[test]
fn a_server_has_nothing_to_log_of_a_look_at_it() {
    inside(|| async {
        let dir = Dir::new("postgresql-log");
        let data = cluster(&dir);
        let directory = format!("log_directory={}", dir.path("log").display());
        let log = ["-c", "logging_collector=on", "-c", &directory, "-c", "log_filename=all"];
        let peer = postgres(&dir, &data, &log);
        let password = asked(5432, "postgres", "postgres");
        until(&password, &Ok("127.0.0.1:5432 asks for authentication")).await;
        let read = || fs::read_to_string(dir.path("log/all")).unwrap_or_default();
        let before = read().len();
        for _ in 0..3 {
            look(&password).await.unwrap();
            look(&asked(5432, "postgres", "template1")).await.unwrap();
            look(&Probe::Tcp("127.0.0.1:5432".parse().unwrap())).await.unwrap();
        }
        // This it logs, after all that came before.
        look(&asked(5432, "vipd", "postgres")).await.unwrap();
        let logged = async {
            while !read()[before..].contains("no pg_hba.conf entry") {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), logged).await.unwrap();
        assert_eq!(read()[before..].lines().count(), 1, "{}", &read()[before..]);
        peer.end(Signal::SIGINT);
    });
}

#[test]
fn a_pooler_tells_what_is_behind_it() {
    inside(|| async {
        let dir = Dir::new("pgbouncer");
        let data = cluster(&dir);
        let server = postgres(&dir, &data, &[]);
        until(&asked(5432, "postgres", "template1"), &Ok("127.0.0.1:5432 is ready")).await;
        let text = format!(
            "[databases]\napp = host=127.0.0.1 port=5432 dbname=template1 user=postgres\n\
             gone = host=127.0.0.1 port=5439 dbname=template1 user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = 6432\nauth_type = any\n\
             unix_socket_dir = {}\nserver_login_retry = 0.1\n",
            dir.0.display()
        );
        let config = dir.write("pgbouncer.ini", &text);
        let peer = Peer::run(&as_postgres(&["/usr/sbin/pgbouncer", config.to_str().unwrap()]));
        until(&asked(6432, "postgres", "app"), &Ok("127.0.0.1:6432 is ready")).await;
        let unknown = look(&asked(6432, "postgres", "nowhere")).await.unwrap_err();
        assert!(unknown.ends_with("(08P01)"), "{unknown}");
        // It lets a client in only when a server did, and until then says nothing.
        let gone = look_shortly(&asked(6432, "postgres", "gone")).await.unwrap_err();
        println!("{gone}");
        peer.signal(Signal::SIGSTOP);
        let hung = look_shortly(&asked(6432, "postgres", "app")).await.unwrap_err();
        assert!(hung.contains("accepted the connection and does not answer"), "{hung}");
        peer.signal(Signal::SIGCONT);
        peer.end(Signal::SIGKILL);
        let dead = look(&asked(6432, "postgres", "app")).await.unwrap_err();
        assert!(dead.ends_with("refused"), "{dead}");
        server.end(Signal::SIGINT);
    });
}

#[test]
fn a_member_of_patroni_has_a_role() {
    inside(|| async {
        let dir = Dir::new("patroni");
        fs::create_dir(dir.path("raft")).unwrap();
        give(&dir.0);
        let text = format!(
            "scope: vipd\nname: one\n\
             restapi: {{listen: '127.0.0.1:8008', connect_address: '127.0.0.1:8008'}}\n\
             raft: {{data_dir: {dir}/raft, self_addr: '127.0.0.1:2222'}}\n\
             bootstrap:\n  dcs: {{ttl: 20, loop_wait: 1, retry_timeout: 3}}\n  \
             initdb: [{{encoding: UTF8}}, no-sync]\n  pg_hba: [host all all 127.0.0.1/32 trust]\n\
             postgresql:\n  listen: 127.0.0.1:5432\n  connect_address: 127.0.0.1:5432\n  \
             data_dir: {dir}/data\n  bin_dir: {BIN}\n  pgpass: {dir}/pgpass\n  \
             authentication: {{superuser: {{username: postgres, password: x}}, \
             replication: {{username: replicator, password: x}}}}\n  \
             parameters: {{unix_socket_directories: {dir}, fsync: 'off'}}\n",
            dir = dir.0.display()
        );
        let config = dir.write("patroni.yml", &text);
        let role = |path: &str| {
            let urls = vec![
                "http://127.0.0.1:8009/primary".to_owned(),
                format!("http://127.0.0.1:8008/{path}"),
            ];
            Probe::Http(Http { urls, status: vec![200], body: None })
        };
        let peer = Peer::run(&as_postgres(&["/usr/bin/patroni", config.to_str().unwrap()]));
        until(&role("primary"), &Ok("127.0.0.1:8008 answered 200 OK")).await;
        assert!(look(&role("health")).await.is_ok());
        assert!(look(&role("liveness")).await.is_ok());
        let replica = look(&role("replica")).await.unwrap_err();
        let refused = "cannot connect to 127.0.0.1:8009: refused";
        assert_eq!(replica, format!("{refused}; 127.0.0.1:8008 answered 503 Service Unavailable"));
        peer.signal(Signal::SIGSTOP);
        let hung = look_shortly(&role("primary")).await.unwrap_err();
        assert!(hung.ends_with("127.0.0.1:8008: no answer within 300ms"), "{hung}");
        peer.signal(Signal::SIGCONT);
        // It stops its PostgreSQL, which is no child of its.
        peer.end(Signal::SIGTERM);
    });
}
