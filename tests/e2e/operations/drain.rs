//! The end of a gateway process: what is in progress finishes, within a bound; nothing new begins.

use bytes::Bytes;
use countersign_tests::{
    client::Session,
    fake::{Misbehaviour, Protocol},
    process::Process,
    world::{Options, World},
};
use futures_util::StreamExt as _;
use http::{Method, Request, StatusCode};
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use rstest::rstest;
use tokio::net::TcpStream;

use crate::harness::site::soon;

#[rstest]
#[tokio::test]
async fn a_request_in_progress_finishes_and_a_new_one_is_refused(
    #[values(Protocol::Http1, Protocol::Http2)] protocol: Protocol,
) -> anyhow::Result<()> {
    let world = World::start().await?;
    let mut gateway = Process::start(&world, None).await?;
    let token = world.token("qa", "nightly-dashboard");
    let client = gateway.client().bearer(&token).over(protocol);
    let mut session = Session::over(client.tls_stream("slack.com").await?).await?;
    let (finish, finished) = tokio::sync::oneshot::channel::<()>();
    let piece = |text: &'static str| Ok::<_, std::io::Error>(Frame::data(Bytes::from(text)));
    let last = futures_util::stream::once(async move {
        finished.await.map_err(std::io::Error::other)?;
        piece("\"text\":\"hi\"}")
    });
    let body = futures_util::stream::iter([piece("{\"channel\":\"C1\",")]).chain(last);
    let request = Request::builder()
        .method(Method::POST)
        .uri("https://slack.com/api/chat.postMessage")
        .header("content-type", "application/json")
        .body(StreamBody::new(Box::pin(body)))?;
    let answer = tokio::spawn(async move { session.send(request).await });
    let arrived = crate::harness::site::soon("the request's arrival", async {
        while world.slack.server().open_connections() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    arrived.await?;

    gateway.signal("TERM").await?;
    let closed = soon("the closing of the listener", async {
        while TcpStream::connect(gateway.address()).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    closed.await?;
    let ready = gateway.admin("/readyz").await?;
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    finish.send(()).expect("the body waits");
    let answer = soon("the answer", answer).await???;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["ok"], true, "{}", answer.text());
    assert_eq!(gateway.ended().await?.code(), Some(0));
    let records = world.decisions()?;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["outcome"], "permitted");
    Ok(())
}

#[tokio::test]
async fn draining_has_a_bound_and_what_it_cuts_off_is_recorded() -> anyhow::Result<()> {
    let options = Options {
        extra: "  limits: { drain: 300ms }\n".to_owned(),
        ..Options::default()
    };
    let world = World::with(options).await?;
    let mut gateway = Process::start(&world, None).await?;
    let token = world.token("qa", "nightly-dashboard");
    world.slack.misbehave(Some(Misbehaviour::Stall));
    let client = gateway.client().bearer(&token);
    let mut session = client.open("slack.com").await?;
    let request = Request::post("https://slack.com/api/auth.test").body(Full::default())?;
    let waiting = tokio::spawn(async move { session.start(request).await.map(drop) });
    assert!(
        world
            .slack
            .received()
            .wait_for(1, crate::harness::site::PATIENCE)
            .await
    );
    gateway.signal("TERM").await?;
    assert_eq!(gateway.ended().await?.code(), Some(0));
    assert!(soon("the cut", waiting).await??.is_err());
    let records = world.decisions()?;
    assert_eq!(records.len(), 1, "the request left no record");
    assert_eq!(records[0]["outcome"], "failed", "{}", records[0]);
    assert_eq!(records[0]["reason"], "draining", "{}", records[0]);
    Ok(())
}
