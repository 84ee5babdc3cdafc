//! A `101` is believed only if it answers what was asked (RFC 6455, section 4.1).

use countersign_tests::fake::Protocol;
use rstest::rstest;
use tokio::io::AsyncWriteExt as _;

use super::{
    bench::{Bench, H1},
    scripted::{Then, plain},
};
use crate::harness::{exchange, until};

/// The client's part of the example of RFC 6455, section 1.3, and what the server's part needs.
const ASKED: &str = "GET /socket HTTP/1.1\r\nHost: h1.example.test\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const UPGRADE: &str = "Upgrade: websocket";
const CONNECTION: &str = "Connection: Upgrade";
const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[rstest]
#[case::h2c(&["Upgrade: h2c", CONNECTION, ACCEPT])]
#[case::h2c_besides(&["Upgrade: websocket, h2c", CONNECTION, ACCEPT])]
#[case::no_upgrade(&[CONNECTION, ACCEPT])]
#[case::no_connection(&[UPGRADE, ACCEPT])]
#[case::connection_says_close(&[UPGRADE, "Connection: close", ACCEPT])]
#[case::no_accept(&[UPGRADE, CONNECTION])]
#[case::another_keys_accept(&[UPGRADE, CONNECTION, "Sec-WebSocket-Accept: HSmrc0sMlYUkAGmm5OPpG2HaGWk="])]
#[case::two_accepts(&[UPGRADE, CONNECTION, ACCEPT, ACCEPT])]
#[case::a_protocol_not_offered(&[UPGRADE, CONNECTION, ACCEPT, "Sec-WebSocket-Protocol: chat"])]
#[case::an_extension_not_offered(&[UPGRADE, CONNECTION, ACCEPT, "Sec-WebSocket-Extensions: permessage-deflate"])]
#[case::nothing_at_all(&[])]
#[tokio::test]
async fn t74_a_101_that_does_not_answer_makes_no_tunnel(
    #[case] headers: &[&str],
) -> anyhow::Result<()> {
    let mut bench = Bench::start().await?;
    let headers = headers.join("\r\n");
    let switch = format!("HTTP/1.1 101 Switching Protocols\r\n{headers}\r\n\r\n");
    bench.h1.answers(plain(&switch, Then::Echo));
    let mut stream = bench.tunnel(H1, Protocol::Http1).await?;
    let asked = ASKED.replace("\r\n\r\n", "\r\nX-Last: 1\r\n\r\n");
    stream.write_all(asked.as_bytes()).await?;
    let next = "GET /next HTTP/1.1\r\nHost: h1.example.test\r\nConnection: close\r\n\r\n";
    let answer = exchange(&mut stream, next).await?;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("upstream_broken"), "{answer}");
    // What came behind it is the next request, and none of it went to the upstream.
    assert!(answer.contains("HTTP/1.1 200 "), "{answer}");
    let record = bench.record().await?;
    assert_eq!(record["reason"], "upstream_broken", "{record}");
    assert_eq!(record["blame"], "upstream", "{record}");
    until("the end of the connection that was to switch", async || {
        bench.h1.open() <= 1
    })
    .await
}

#[rstest]
#[case::t21_another_answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200")]
#[case::of_http10(
    "HTTP/1.0 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    "502"
)]
#[case::t21_bytes_before("junk\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n", "502")]
#[case::upgrade_required("HTTP/1.1 426 \r\nContent-Length: 0\r\nUpgrade: h2c\r\n\r\n", "426")]
#[tokio::test]
async fn an_answer_other_than_101_makes_no_tunnel(
    #[case] answer: &str,
    #[case] status: &str,
) -> anyhow::Result<()> {
    let bench = Bench::start().await?;
    bench.h1.answers(plain(answer, Then::Next));
    let asked = format!("{ASKED}GET /next HTTP/1.1\r\nHost: {H1}\r\nConnection: close\r\n\r\n");
    let answer = bench.talk(H1, &asked).await?;
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status}")),
        "{answer}"
    );
    assert!(!answer.contains("HTTP/1.1 101"), "{answer}");
    Ok(())
}

/// Only a WebSocket is asked for; every other upgrade is stripped, and the request goes on.
#[rstest]
#[case::t22_h2c("Upgrade: websocket", "Upgrade: h2c")]
#[case::t22_tls("Upgrade: websocket", "Upgrade: TLS/1.2")]
#[case::a_list("Upgrade: websocket", "Upgrade: websocket, h2c")]
#[case::no_key("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "")]
#[case::a_short_key("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==")]
#[case::another_method("GET /socket", "POST /socket")]
#[tokio::test]
async fn t22_what_asks_for_no_websocket_asks_for_no_upgrade(
    #[case] from: &str,
    #[case] to: &str,
) -> anyhow::Result<()> {
    let bench = Bench::start().await?;
    let asked = ASKED.replace(from, to);
    assert_ne!(asked, ASKED);
    let next = format!("GET /next HTTP/1.1\r\nHost: {H1}\r\nConnection: close\r\n\r\n");
    let answer = bench.talk(H1, &format!("{asked}{next}")).await?;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = bench.h1.seen();
    assert!(
        !seen[0].to_ascii_lowercase().contains("upgrade"),
        "{seen:?}"
    );
    Ok(())
}
