//! What a stranger's whole connection costs the thread that serves it, with the kernel's work for it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use countersign_config::load;
use countersign_core::clock::Clock;
use countersign_gateway::app;
use countersign_tests::fake::Authority;
use rustix::thread::{Pid, gettid};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, client::Resumption};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

use super::{frames, tokens};

const NAME: &str = "proxy.example";

/// So many connections, one after the other.
const VISITS: u32 = 1000;

/// Fewer than the bad tokens that one address may send before it has to wait.
const BAD_TOKENS: u32 = 90;

pub(crate) fn measure() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("Bench Root");
    let gateway = Gateway::start(directory.path(), &authority);
    let proxy = gateway.proxy;
    let say = |what: &str, bytes: &[u8]| {
        gateway.report(&format!("connection, {what}"), VISITS, |_| {
            say(proxy, bytes);
        });
    };
    say("nothing", b"");
    say("no protocol", &[0xff; 1024]);
    say("HTTP/1.1, no proof", &head(""));
    let fields = format!("x: {}\r\n", "0".repeat(160)).repeat(95);
    say("HTTP/1.1, 95 fields, 16 KiB", &head(&fields));
    say(
        "HTTP/1.1, 1,500 fields, 16 KiB",
        &head(&"a: bcdef\r\n".repeat(1500)),
    );
    say("HTTP/1.1, endless head", &vec![b'G'; 64 * 1024]);
    let basic = format!("proxy-authorization: Basic {}\r\n", "YTpi".repeat(3900));
    say("HTTP/1.1, 15 KiB that is no token", &head(&basic));
    let whole = head(&fields);
    gateway.report("connection, the same head by 64 bytes", VISITS, |_| {
        in_pieces(proxy, &whole, 64);
    });
    gateway.report(
        "connection, bad token, RS256 by 2048 bits",
        BAD_TOKENS,
        |number| {
            let token = tokens::bad(usize::try_from(number).unwrap_or_default());
            let field = format!("proxy-authorization: Bearer {}\r\n", token.expose());
            self::say(proxy, &head(&field));
        },
    );
    let client = client(&authority, "http/1.1");
    let http1 = [("nothing", Vec::new()), ("HTTP/1.1, no proof", head(""))];
    let http1 = http1.into_iter().map(|visit| (visit, client.clone()));
    let client = self::client(&authority, "h2");
    let http2 = frames::visits()
        .into_iter()
        .map(|visit| (visit, client.clone()));
    for ((what, bytes), client) in http1.chain(http2) {
        gateway.report(&format!("connection, TLS, {what}"), VISITS, |_| {
            over_tls(gateway.tls, &client, &bytes);
        });
    }
}

/// A request in absolute form.
fn head(fields: &str) -> Vec<u8> {
    format!("GET http://api.example/ HTTP/1.1\r\nHost: api.example\r\n{fields}\r\n").into_bytes()
}

/// Says all of it, and listens to the end. Being cut off is an end.
fn say(address: SocketAddr, bytes: &[u8]) {
    in_pieces(address, bytes, usize::MAX);
}

fn in_pieces(address: SocketAddr, bytes: &[u8], size: usize) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_nodelay(true).expect("it is open");
    for piece in bytes.chunks(size) {
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

fn over_tls(address: SocketAddr, client: &Arc<ClientConfig>, bytes: &[u8]) {
    let stream = TcpStream::connect(address).expect("it listens");
    let name = ServerName::try_from(NAME).expect("a name");
    let client = ClientConnection::new(Arc::clone(client), name).expect("a client");
    let mut stream = StreamOwned::new(client, stream);
    while stream.conn.is_handshaking() {
        stream
            .conn
            .complete_io(&mut stream.sock)
            .expect("a handshake");
    }
    let _ = stream.write_all(bytes);
    stream.conn.send_close_notify();
    let _ = stream.flush();
    let _ = stream.sock.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

fn client(authority: &Authority, protocol: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM");
    roots.add(root).expect("a root");
    let mut client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![protocol.into()];
    client.resumption = Resumption::disabled();
    Arc::new(client)
}

/// A gateway that one thread serves.
struct Gateway {
    thread: Pid,
    proxy: SocketAddr,
    tls: SocketAddr,
}

impl Gateway {
    fn start(directory: &Path, authority: &Authority) -> Self {
        let (certificate, key) = authority.issue(&[NAME]);
        let write = |name: &str, text: &str| {
            fs::write(directory.join(name), text).expect("a file");
        };
        write("tls.pem", &certificate);
        write("tls.key", &key);
        write("jwks.json", &tokens::keys().to_string());
        let root = directory.display().to_string();
        write("gateway.yaml", &GATEWAY.replace("{root}", &root));
        fs::create_dir(directory.join("policy")).expect("a directory");
        let (gateway, _) = load::gateway(&directory.join("gateway.yaml")).expect("it loads");
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let app = app::build(gateway, Clock::system()).await;
                let app = app.expect("it starts");
                tell.send((gettid(), app.addresses())).expect("it waits");
                app.run(std::future::pending()).await;
            });
        });
        let (thread, addresses) = told.recv().expect("it starts");
        Self {
            thread,
            proxy: addresses[0].1,
            tls: addresses[1].1,
        }
    }

    /// Prints what one visit takes on average; a tenth of as many come before.
    fn report(&self, what: &str, visits: u32, visit: impl Fn(u32)) {
        let first = visits / 10;
        (0..first).for_each(&visit);
        let before = self.spent();
        (first..visits).for_each(&visit);
        super::print(what, self.spent().saturating_sub(before) / (visits - first));
    }

    /// The thread's time on a processor, as the scheduler counts it.
    fn spent(&self) -> Duration {
        let path = format!("/proc/self/task/{}/schedstat", self.thread.as_raw_nonzero());
        let text = fs::read_to_string(path).expect("Linux tells");
        let spent = text.split(' ').next().unwrap_or_default();
        Duration::from_nanos(spent.parse().expect("a number"))
    }
}

const GATEWAY: &str = r#"apiVersion: countersign.dev/v1alpha1
kind: Gateway
metadata: { name: bench }
spec:
  listeners:
    - { name: proxy, address: "127.0.0.1:0" }
    - { name: tls, address: "127.0.0.1:0", tls: { certificate: "{root}/tls.pem", key: "{root}/tls.key" } }
  identity:
    issuers:
      - name: prod-eu
        issuer: "https://kubernetes.default.svc.cluster.local"
        audience: countersign
        jwks: { file: "{root}/jwks.json" }
  resources:
    - directory: "{root}/policy"
  interception:
    ca: { directory: "{root}/ca" }
  state: { directory: "{root}/state" }
  observe:
    decisions: { file: "{root}/decisions.jsonl" }
"#;
