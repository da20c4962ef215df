//! Webhooks over TLS: a server that the host trusts is told, and no other.

#![allow(clippy::disallowed_methods, reason = "the lab measures and waits in real time")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use netns_tests::cluster::said;
use netns_tests::peer::vipd::Vipd;
use netns_tests::run::stdout;
use netns_tests::{Host, Lab, Proc, Result, wait_until};
use serde_json::Value;

use common::{File, SECOND, VIP_NET, host};

/// Python's web server behind its TLS; it writes down what is posted: the line of the
/// authorization, then the body.
const SERVER: &str = r#"
import http.server, ssl, sys
certificate, key, port, log = sys.argv[1:]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(log, "ab") as file:
            file.write(self.headers["Authorization"].encode() + b"\n" + body + b"\n")
        self.send_response(204)
        self.end_headers()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server = http.server.ThreadingHTTPServer(("0.0.0.0", int(port)), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

/// Certificates of one authority, in the directory of a host.
struct Authority {
    host: Host,
    name: &'static str,
}

impl Authority {
    fn new(host: &Host, name: &'static str) -> Result<Self> {
        let this = Self { host: host.clone(), name };
        this.openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=AUTHORITY -keyout NAME.key -out NAME.pem",
        )?;
        Ok(this)
    }

    /// A server on `port` with a certificate for `ip`; what it writes down is in the file returned.
    fn server(&self, ip: &str, port: &str) -> Result<(Proc, PathBuf)> {
        self.host.write(&format!("{}.ext", self.name), &format!("subjectAltName=IP:{ip}\n"))?;
        self.openssl(
            "req -newkey rsa:2048 -nodes -subj /CN=server -keyout NAME-s.key -out NAME.csr",
        )?;
        self.openssl(
            "x509 -req -in NAME.csr -CA NAME.pem -CAkey NAME.key -CAcreateserial -days 2 \
             -extfile NAME.ext -out NAME-s.pem",
        )?;
        let log = self.host.dir().join(format!("{}.posted", self.name));
        let [certificate, key] = ["-s.pem", "-s.key"].map(|end| self.file(end));
        let text = log.to_string_lossy();
        let argv = ["python3", "-c", SERVER, &certificate, &key, port, &text];
        let process = self.host.spawn(self.name, &argv)?;
        wait_until("a web server", 10 * SECOND, || {
            let listening = self.host.run(&["ss", "-Hltn"])?;
            Ok(said(&listening).contains(&format!(":{port}")))
        })?;
        Ok((process, log))
    }

    fn file(&self, end: &str) -> String {
        self.host.dir().join(format!("{}{end}", self.name)).to_string_lossy().into_owned()
    }

    fn openssl(&self, arguments: &str) -> Result {
        let place = self.file("");
        let words = arguments.split(' ').map(|word| {
            // Two that are called alike would be taken for one with a bad signature.
            word.replace("NAME", &place).replace("AUTHORITY", self.name)
        });
        let argv: Vec<_> = std::iter::once("openssl".to_owned()).chain(words).collect();
        stdout(&argv.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(())
    }
}

#[test]
fn a_server_is_told_that_the_host_trusts_and_no_other() -> Result {
    let lab = Lab::new("webhook")?;
    let hap1 = host(&lab, "hap1", 132)?;
    let web = lab.host("web", &["192.168.34.200/24", "192.168.34.201/24"])?;
    let [good, bad] = [Authority::new(&web, "good")?, Authority::new(&web, "bad")?];
    let (_trusted, posted) = good.server("192.168.34.200", "8443")?;
    let (_stranger, nothing) = bad.server("192.168.34.200", "8444")?;
    let token = hap1.write("token", "t0ken\n")?;
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600))
        .expect("a file of the lab");
    let hook = |name: &str, at: &str| {
        format!(
            "[[hook]]\nname = \"{name}\"\nurl = \"https://{at}/vipd\"\ntoken-file = \"{}\"\n\
             on = [\"fault\"]\n",
            token.display()
        )
    };
    let keys = hook("trusted", "192.168.34.200:8443")
        + &hook("stranger", "192.168.34.200:8444")
        + &hook("another", "192.168.34.201:8443");
    let nodes = [("hap1", 132, 150), ("hap2", 133, 100)];
    let file = File { nodes: &nodes, routers: &[], addresses: &[VIP_NET], keys }.text();
    let trust = good.file(".pem");
    let mut vipd = Vipd::start_in(&hap1, &file, &[], &[("SSL_CERT_FILE", &trust)])?;
    vipd.wait_role("postgres", "active", 10 * SECOND)?;
    let call = |name: &str| -> Result<(bool, String)> {
        let output = vipd.ctl(&["hook", name, "--state", "fault"])?;
        Ok((output.status.success(), said(&output)))
    };

    let (done, text) = call("trusted")?;
    assert!(done, "{text}");
    let told = std::fs::read_to_string(&posted).unwrap_or_default();
    let (authorization, body) = told.split_once('\n').expect("two lines");
    assert_eq!(authorization, "Bearer t0ken");
    let body: Value = serde_json::from_str(body).expect("one object");
    assert_eq!((&body["node"], &body["kind"]), (&"hap1".into(), &"fault".into()), "{body}");

    // Nobody else sees the token, and why is said.
    for (name, why) in [("stranger", "UnknownIssuer"), ("another", "not valid for name")] {
        let (done, text) = call(name)?;
        assert!(!done && text.contains(why), "{name}: {text}");
    }
    assert!(!nothing.exists());
    assert_eq!(std::fs::read_to_string(&posted).unwrap_or_default(), told);
    Ok(())
}
