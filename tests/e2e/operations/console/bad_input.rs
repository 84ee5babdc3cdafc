//! What browsers and others must not be able to do to the console, or by it.

use http::StatusCode;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{MorningBed, TOKEN};
use crate::harness::{auth_test, until};

/// The status of an answer.
fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn who_has_no_business_there_is_told_so_and_gets_nothing() -> anyhow::Result<()> {
    let bed = MorningBed::start().await?;
    let bearer = format!("authorization: Bearer {TOKEN}");
    let huge = format!("GET /console?{} HTTP/1.1", "x".repeat(8_000));
    let larger = format!("GET /console?{} HTTP/1.1", "x".repeat(80_000));
    let own = "host: 127.0.0.1";
    let cases: [(&[&str], &str); 12] = [
        (
            &["GET /console HTTP/1.1", "host: evil.example", &bearer],
            "421",
        ),
        (
            &[
                "GET /console HTTP/1.1",
                "host: localhost.evil.example",
                &bearer,
            ],
            "421",
        ),
        (
            &[
                "GET /console HTTP/1.1",
                "host: localhost",
                "host: evil.example",
                &bearer,
            ],
            "421",
        ),
        (&["GET /console HTTP/1.1", own], "401"),
        (
            &[
                "GET /console HTTP/1.1",
                own,
                "authorization: Bearer wrong-wrong-wrong-wrong",
            ],
            "401",
        ),
        (
            &[
                "GET /console HTTP/1.1",
                own,
                "cookie: countersign-console=9999999999.00",
            ],
            "401",
        ),
        (&["TRACE /console HTTP/1.1", own, &bearer], "405"),
        (&["DELETE /console/review HTTP/1.1", own, &bearer], "405"),
        (&["GET /console/../metrics HTTP/1.1", own, &bearer], "404"),
        (
            &[
                "GET /console/%2e%2e/%2e%2e/etc/passwd HTTP/1.1",
                own,
                &bearer,
            ],
            "404",
        ),
        (&[&huge, own, &bearer], "414"),
        (&["GET /console HTTP/1.1", own, &bearer], "200"),
    ];
    for (lines, expected) in cases {
        let answer = bed.ask(lines).await?;
        assert_eq!(status(&answer), expected, "{lines:?}: {answer}");
        assert!(
            answer.contains("content-security-policy: default-src 'none'"),
            "{answer}"
        );
    }
    // More than a head may have never reaches the console.
    let answer = bed.ask(&[&larger, own, &bearer]).await.unwrap_or_default();
    assert_ne!(status(&answer), "200", "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_thousand_wrong_tokens_are_soon_not_looked_at() -> anyhow::Result<()> {
    let bed = MorningBed::start().await?;
    let mut refused = 0;
    for number in 0..1_000 {
        let guess = format!("authorization: Bearer guess-{number}");
        let answer = bed
            .ask(&["GET /console HTTP/1.1", "host: 127.0.0.1", &guess])
            .await?;
        refused += usize::from(status(&answer) == "429");
    }
    assert!(refused > 500, "{refused} were refused unseen");
    // The gateway itself goes on.
    assert!(bed.gateway.admin("/healthz").await?.contains("200"));
    Ok(())
}

/// Browsers open connections ahead, and keep them.
#[tokio::test]
async fn browsers_that_keep_connections_take_nobody_s_place() -> anyhow::Result<()> {
    let bed = MorningBed::start().await?;
    let mut kept = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(bed.gateway.admin_address()).await?;
        if number % 2 == 0 {
            // It may have had to make room already.
            let _ = stream
                .write_all(b"GET /console HTTP/1.1\r\nhost: 127.0.0.1\r\n")
                .await;
        }
        kept.push(stream);
    }
    // In a burst it is the newcomer that gives way, and comes again.
    until("a page", async || {
        let page = bed.page("/console").await;
        page.is_ok_and(|page| status(&page) == "200")
    })
    .await?;
    assert!(bed.gateway.admin("/healthz").await?.contains("200"));
    let token = bed
        .env
        .token("qa", countersign_tests::environment::DASHBOARD);
    let client = bed.gateway.client().bearer(&token);
    assert_eq!(client.send(auth_test()).await?.status, StatusCode::OK);
    Ok(())
}
