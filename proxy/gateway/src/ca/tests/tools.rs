//! The verifiers of other runtimes, where they are installed; a skip says so.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    process::{Command, Stdio},
    thread,
};

use super::*;

/// Whether `tool` runs here.
fn installed(tool: &str, version: &str) -> bool {
    let found = Command::new(tool)
        .arg(version)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        // Past the capture of test output, so that `tests/run` sees and counts it.
        let line = format!("\nSKIPPED: {tool} is not installed\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    found
}

/// What `command` printed, on both streams, and whether it succeeded.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// A CA in the machine's own time, which these tools go by.
fn fixture_now(hosts: &[&str]) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let ca = Ca::open_or_create(directory.path(), clock.clone(), 100).unwrap();
    constrain(&ca, hosts).unwrap();
    Fixture {
        directory,
        clock,
        ca: Arc::new(ca),
    }
}

/// Writes root, intermediate and a leaf for `name`, whether or not it may have one.
fn write_chain(fixture: &Fixture, name: &str) {
    let intermediate = fixture.ca.intermediate.load_full().unwrap();
    let template = ServerTemplate::new().unwrap();
    let forged = intermediate
        .mint(&host(name), &template, fixture.clock.now())
        .unwrap();
    // No verification here: that is the tool's part.
    let mut client = fixture.client();
    client
        .dangerous()
        .set_certificate_verifier(Arc::new(TakesAll));
    let chain = handshake(client.into(), forged.config(), name)
        .unwrap()
        .chain;
    fs::write(fixture.path().join("leaf.crt"), pem(&chain[0])).unwrap();
    fs::write(fixture.path().join("root.crt"), fixture.ca.root_pem()).unwrap();
}

#[test]
fn openssl_accepts_the_chain_and_refuses_a_forged_one() {
    if !installed("openssl", "version") {
        return;
    }
    let hosts = ["slack.com", "wss*.slack.com", "192.0.2.7"];
    let verify = |hosts: &[&str], name: &str| {
        let fixture = fixture_now(hosts);
        write_chain(&fixture, name);
        let by = if name.parse::<std::net::IpAddr>().is_ok() {
            "-verify_ip"
        } else {
            "-verify_hostname"
        };
        run(Command::new("openssl")
            .current_dir(fixture.path())
            .args(["verify", "-x509_strict", "-purpose", "sslserver", by, name])
            .args([
                "-CAfile",
                "root.crt",
                "-untrusted",
                "intermediate.crt",
                "leaf.crt",
            ]))
    };
    for name in ["slack.com", "wss-primary.slack.com", "192.0.2.7"] {
        let (accepted, text) = verify(&hosts, name);
        assert!(accepted, "{name}: {text}");
    }
    // Addresses alone: a common name would be taken for a DNS name, and those are excluded.
    let (accepted, text) = verify(&["192.0.2.7", "2001:db8::7"], "192.0.2.7");
    assert!(accepted, "{text}");
    for (hosts, name) in [
        (hosts.as_slice(), "evil.test"),
        (&hosts, "192.0.2.8"),
        (&hosts, "2001:db8::7"),
        (&["192.0.2.7"], "slack.com"),
    ] {
        let (accepted, text) = verify(hosts, name);
        assert!(
            !accepted && text.contains("subtree violation"),
            "{name}: {text}"
        );
    }
}

/// Serves one connection on loopback and answers with its ALPN protocol.
fn serve_once(server: Arc<ServerConfig>) -> (u16, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(server).unwrap();
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        // Fails where the client is expected to refuse us.
        if stream.write_all(b"hello").is_ok() {
            let mut end = Vec::new();
            let _closed = stream.read_to_end(&mut end);
        }
    });
    (port, thread)
}

#[test]
fn python_accepts_the_leaf_in_strict_mode_and_refuses_another_name() {
    if !installed("python3", "--version") {
        return;
    }
    let script = r"
import socket, ssl, sys
root, port, name = sys.argv[1:]
context = ssl.create_default_context(cafile=root)
context.verify_flags |= ssl.VERIFY_X509_STRICT
with socket.create_connection(('127.0.0.1', int(port)), timeout=20) as plain:
    with context.wrap_socket(plain, server_hostname=name) as tls:
        print(tls.version(), tls.recv(5).decode())
";
    let fixture = fixture_now(&["slack.com", "files.slack.com", "192.0.2.7"]);
    let root = fixture.path().join("root.crt");
    fs::write(&root, fixture.ca.root_pem()).unwrap();
    let connect = |served: &str, asked: &str| {
        let (port, thread) = serve_once(fixture.ca.leaf(&host(served)).unwrap());
        let mut python = Command::new("python3");
        python
            .args(["-c", script])
            .arg(&root)
            .args([&port.to_string(), asked]);
        let outcome = run(&mut python);
        thread.join().unwrap();
        outcome
    };
    for name in ["slack.com", "192.0.2.7"] {
        assert_eq!(connect(name, name), (true, "TLSv1.3 hello\n".into()));
    }
    let (accepted, text) = connect("files.slack.com", "slack.com");
    assert!(!accepted && text.contains("Hostname mismatch"), "{text}");
}

#[test]
fn the_bundle_has_the_systems_roots_and_ours() {
    let fixture = fixture_now(&[]);
    let bundle = fixture.ca.bundle_pem().unwrap();
    let roots = CertificateDer::pem_slice_iter(bundle.as_bytes()).collect::<Result<Vec<_>, _>>();
    let ours = CertificateDer::from_pem_slice(fixture.ca.root_pem().as_bytes()).unwrap();
    let roots = roots.unwrap();
    assert!(roots.len() > 10 && roots.contains(&ours));
    assert!(!bundle.contains("PRIVATE"));
}

/// A client that looks at nothing, to get at a forged chain.
#[derive(Debug)]
struct TakesAll;

impl rustls::client::danger::ServerCertVerifier for TakesAll {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
