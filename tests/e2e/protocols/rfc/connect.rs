//! CONNECT, upgrades, and what a proxy says for itself.

use anyhow::ensure;
use countersign_tests::{client::read_head, fake::Protocol};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    Row,
    bench::{H1, H2},
    frames, row,
    scripted::{Then, plain},
};
use crate::harness::{UNMATCHED, soon};

const PROOF: &str = "Proxy-Authorization: Bearer TOKEN\r\n";

pub(super) fn rows() -> Vec<Row> {
    [connect(), refusals(), upgrade()]
        .into_iter()
        .flatten()
        .collect()
}

fn connect() -> Vec<Row> {
    vec![
        row!("9110 9.3.6", "CONNECT needs a port", |bench| {
            for target in [H1.to_owned(), format!("{H1}:"), format!("{H1}:0")] {
                let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {H1}\r\n{PROOF}\r\n");
                let answer = bench.to_proxy(&request).await?;
                ensure!(answer.starts_with("HTTP/1.1 400"), "{target}: {answer}");
            }
        }),
        row!(
            "9110 9.3.6",
            "success has neither length nor coding",
            |bench| {
                let request = format!("CONNECT {H1}:443 HTTP/1.1\r\nHost: {H1}:443\r\n{PROOF}\r\n");
                let mut stream = TcpStream::connect(bench.bed.gateway.address()).await?;
                let request = request.replace("TOKEN", &bench.bed.token);
                stream.write_all(request.as_bytes()).await?;
                let head = soon("the answer", read_head(&mut stream)).await??;
                ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
                let head = head.to_ascii_lowercase();
                ensure!(
                    !head.contains("content-length") && !head.contains("transfer-"),
                    "{head}"
                );
            }
        ),
        row!(
            "9110 9.3.6",
            "the end of one side reaches the other behind its bytes",
            |bench| {
                bench.bed.api.speak(Protocol::Http1);
                let request =
                    format!("CONNECT {UNMATCHED}:443 HTTP/1.1\r\nHost: {UNMATCHED}\r\n{PROOF}\r\n");
                let mut stream = TcpStream::connect(bench.bed.gateway.address()).await?;
                let request = request.replace("TOKEN", &bench.bed.token);
                stream.write_all(request.as_bytes()).await?;
                let head = soon("the answer", read_head(&mut stream)).await??;
                ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
                // Neither TLS nor HTTP: the API says so by an alert, and closes.
                stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await?;
                let mut alert = Vec::new();
                soon("the end", stream.read_to_end(&mut alert)).await??;
                ensure!(alert.first() == Some(&21), "{alert:?}");
            }
        ),
        row!(
            "9112 3.2.3",
            "CONNECT in another form than host and port",
            |bench| {
                let request =
                    format!("CONNECT https://{H1}/ HTTP/1.1\r\nHost: {H1}\r\n{PROOF}\r\n");
                let answer = bench.to_proxy(&request).await?;
                ensure!(answer.starts_with("HTTP/1.1 400"), "{answer}");
            }
        ),
    ]
}

fn refusals() -> Vec<Row> {
    vec![
        row!("9110 11.7.1", "407 says what to show", |bench| {
            let request = format!("CONNECT {H1}:443 HTTP/1.1\r\nHost: {H1}:443\r\n\r\n");
            let answer = bench
                .to_proxy(&format!("{request}GET / HTTP/1.1\r\n\r\n"))
                .await?;
            ensure!(answer.starts_with("HTTP/1.1 407"), "{answer}");
            ensure!(
                answer
                    .to_ascii_lowercase()
                    .contains("\r\nproxy-authenticate: "),
                "{answer}"
            );
        }),
        row!(
            "9113 8.5",
            "CONNECT over HTTP/2 has no scheme and no path",
            |bench| {
                let fields = [
                    (":method", "CONNECT"),
                    (":scheme", "https"),
                    (":path", "/"),
                    (":authority", "h2.example.test:443"),
                ];
                let outcome = bench.frames(H2, &fields, None).await?;
                ensure!(
                    outcome == super::bench::Outcome::Reset(frames::PROTOCOL_ERROR),
                    "{outcome:?}"
                );
            }
        ),
        row!(
            "8441 3",
            "extended CONNECT is not offered, and refused",
            |bench| {
                let fields = [
                    (":method", "CONNECT"),
                    (":protocol", "websocket"),
                    (":scheme", "https"),
                    (":path", "/"),
                    (":authority", "h2.example.test"),
                ];
                let outcome = bench.frames(H2, &fields, None).await?;
                ensure!(
                    outcome == super::bench::Outcome::Reset(frames::PROTOCOL_ERROR),
                    "{outcome:?}"
                );
            }
        ),
    ]
}

/// A client's handshake, of RFC 6455, section 1.3.
const HANDSHAKE: &str = "GET /socket HTTP/1.1\r\nHost: h1.example.test\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn upgrade() -> Vec<Row> {
    vec![
        row!(
            "9110 7.8",
            "Upgrade goes on with its connection option",
            |bench| {
                bench.h1.seen();
                let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
                bench.h1.answers(plain(switch, Then::Echo));
                let mut stream = bench.tunnel(H1, Protocol::Http1).await?;
                stream.write_all(HANDSHAKE.as_bytes()).await?;
                let head = soon("101", read_head(&mut stream))
                    .await??
                    .to_ascii_lowercase();
                ensure!(head.starts_with("http/1.1 101 "), "{head}");
                ensure!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
                ensure!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
                let seen = bench.h1.seen().concat().to_ascii_lowercase();
                ensure!(seen.contains("\r\nupgrade: websocket\r\n"), "{seen}");
                ensure!(seen.contains("\r\nconnection: upgrade\r\n"), "{seen}");
                stream.write_all(b"hello").await?;
                let mut echo = [0; 5];
                soon("the echo", stream.read_exact(&mut echo)).await??;
                ensure!(&echo == b"hello");
            }
        ),
        row!(
            "9110 7.8",
            "Upgrade without its option, or in HTTP/1.0, asks for nothing",
            |bench| {
                for (from, to) in [("Connection: Upgrade\r\n", ""), ("HTTP/1.1", "HTTP/1.0")] {
                    bench.h1.seen();
                    let request = HANDSHAKE
                        .replace(from, to)
                        .replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
                    let answer = bench.talk(H1, &request).await?;
                    ensure!(answer.contains(" 200 OK\r\n"), "{answer}");
                    let seen = bench.h1.seen().concat().to_ascii_lowercase();
                    ensure!(!seen.contains("upgrade"), "{seen}");
                }
            }
        ),
        row!(
            "9113 8.6",
            "a 101 does not reach a client of HTTP/2",
            |bench| {
                let answer = |id| frames::headers(id, &[(":status", "101")], true);
                bench
                    .h2
                    .answers(super::scripted::framed(answer, Then::Next));
                let answer = bench.ask(Protocol::Http2, http::Method::GET, H2).await??;
                ensure!(answer.status == 502, "{answer:?}");
            }
        ),
    ]
}
