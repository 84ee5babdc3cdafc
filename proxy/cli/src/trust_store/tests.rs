//! The trust store as Java reads it; skipped if Java is not installed.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

use countersign_config::host::{Host, HostPattern};
use countersign_core::clock::Clock;
use countersign_gateway::ca::describe;
use rustls::{ServerConfig, ServerConnection};
use tempfile::TempDir;

use super::*;
use crate::environment::TRUST_STORE_PASSWORD;

/// A CA that intercepts some hosts, valid by the machine's own time, which Java uses.
struct Fixture {
    directory: TempDir,
    ca: Ca,
}

impl Fixture {
    fn new(hosts: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = Ca::open_or_create(directory.path(), Clock::system(), 100).unwrap();
        let hosts = hosts.iter().map(|text| HostPattern::parse(text).unwrap());
        ca.constrain(hosts.collect::<Vec<_>>().iter()).unwrap();
        Self { directory, ca }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn leaf(&self, name: &str) -> Arc<ServerConfig> {
        self.ca.leaf(&Host::parse(name).unwrap()).unwrap()
    }
}

/// Whether `tool` is installed.
fn installed(tool: &str, version: &str) -> bool {
    let found = Command::new(tool)
        .arg(version)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        // Written past the capture of test output, so that `tests/run` counts it.
        let line = format!("\nSKIPPED: {tool} is not installed\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    found
}

/// The output of `command`, on both streams, and whether it succeeded.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// Serves one connection on loopback and answers with its ALPN protocol.
fn serve_once(server: Arc<ServerConfig>) -> (u16, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(server).unwrap();
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        // Fails if the client refuses us, as it should.
        if stream.write_all(b"hello").is_ok() {
            let mut end = Vec::new();
            let _closed = stream.read_to_end(&mut end);
        }
    });
    (port, thread)
}

#[test]
fn java_reads_the_trust_store() {
    if !installed("keytool", "-help") {
        return;
    }
    let fixture = Fixture::new(&["slack.com"]);
    let store = fixture.path().join("trust.p12");
    fs::write(&store, pkcs12(&fixture.ca, TRUST_STORE_PASSWORD).unwrap()).unwrap();
    let list = |password: &str| {
        run(Command::new("keytool")
            .args([
                "-list",
                "-storetype",
                "PKCS12",
                "-storepass",
                password,
                "-keystore",
            ])
            .arg(&store))
    };
    let (read, text) = list(TRUST_STORE_PASSWORD);
    assert!(read, "{text}");
    let ours = describe(fixture.path()).unwrap().0.sha256;
    assert!(
        text.contains("countersign, ") && text.contains(&ours),
        "{text}"
    );
    assert!(
        text.matches("trustedCertEntry").count() > 10,
        "the system's roots are there: {text}"
    );
    assert!(!list("wrong").0);
}

/// Opens a TLS connection to this name, verified as HTTPS does, with the default trust store.
const JAVA_CLIENT: &str = r#"
import java.net.Socket;
import javax.net.ssl.*;
class Client {
    public static void main(String[] arguments) throws Exception {
        Socket plain = new Socket("127.0.0.1", Integer.parseInt(arguments[0]));
        SSLSocket tls = (SSLSocket) ((SSLSocketFactory) SSLSocketFactory.getDefault())
            .createSocket(plain, arguments[1], 443, true);
        SSLParameters parameters = tls.getSSLParameters();
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        tls.setSSLParameters(parameters);
        tls.startHandshake();
        System.out.println(new String(tls.getInputStream().readNBytes(5)));
    }
}
"#;

#[test]
fn java_accepts_the_leaf_and_refuses_another_name() {
    if !installed("javac", "-version") || !installed("java", "-version") {
        return;
    }
    let mixed = Fixture::new(&["slack.com", "files.slack.com", "192.0.2.7", "2001:db8::7"]);
    let addresses = Fixture::new(&["192.0.2.7"]);
    for (fixture, name) in [
        (&mixed, "slack.com"),
        (&mixed, "192.0.2.7"),
        (&mixed, "2001:db8::7"),
        (&addresses, "192.0.2.7"),
    ] {
        let (accepted, text) = java_connects(fixture, name, name);
        assert!(accepted && text.ends_with("hello\n"), "{name}: {text}");
    }
    let (accepted, text) = java_connects(&mixed, "files.slack.com", "slack.com");
    assert!(
        !accepted && text.contains("No subject alternative DNS name matching"),
        "{text}"
    );
}

/// Whether a Java client that asks for `asked` accepts a server certificate for `served`.
fn java_connects(fixture: &Fixture, served: &str, asked: &str) -> (bool, String) {
    let file = |name| fixture.path().join(name);
    fs::write(
        file("trust.p12"),
        pkcs12(&fixture.ca, TRUST_STORE_PASSWORD).unwrap(),
    )
    .unwrap();
    fs::write(file("Client.java"), JAVA_CLIENT).unwrap();
    let trust = |name: &str, value: &str| format!("-Djavax.net.ssl.trustStore{name}={value}");
    let (port, thread) = serve_once(fixture.leaf(served));
    let outcome = run(Command::new("java")
        .current_dir(fixture.path())
        .args([
            trust("", "trust.p12"),
            trust("Type", "PKCS12"),
            trust("Password", TRUST_STORE_PASSWORD),
        ])
        .args(["Client.java", &port.to_string(), asked]));
    thread.join().unwrap();
    outcome
}
