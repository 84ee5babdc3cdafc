//! The end of a gateway process: what is in progress finishes, within a bound; nothing new begins.

use bytes::Bytes;
use countersign_tests::{
    client::Session,
    environment::{Environment, Options},
    fake::{Misbehaviour, Protocol},
    process::Process,
};
use futures_util::StreamExt as _;
use http::{Method, Request, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Frame;
use rstest::rstest;
use tokio::net::TcpStream;

use crate::harness::{PATIENCE, auth_test, soon, until};

#[rstest]
#[tokio::test]
async fn a_request_in_progress_finishes_and_a_new_one_is_refused(
    #[values(Protocol::Http1, Protocol::Http2)] protocol: Protocol,
) -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let mut gateway = Process::start(&env, None).await?;
    let token = env.token("qa", "nightly-dashboard");
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
    until("the request's arrival", async || {
        env.slack.server().open_connections() > 0
    })
    .await?;

    gateway.signal("TERM").await?;
    until("the closing of the listener", async || {
        TcpStream::connect(gateway.address()).await.is_err()
    })
    .await?;
    let ready = gateway.admin("/readyz").await?;
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    finish.send(()).expect("the body waits");
    let answer = soon("the answer", answer).await???;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["ok"], true, "{}", answer.text());
    assert_eq!(gateway.ended().await?.code(), Some(0));
    let records = env.decisions()?;
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
    let env = Environment::with(options).await?;
    let mut gateway = Process::start(&env, None).await?;
    let token = env.token("qa", "nightly-dashboard");
    env.slack.misbehave(Some(Misbehaviour::Stall));
    let client = gateway.client().bearer(&token);
    let mut session = client.open("slack.com").await?;
    let waiting = tokio::spawn(async move { session.start(auth_test()).await.map(drop) });
    assert!(env.slack.received().wait_for(1, PATIENCE).await);
    gateway.signal("TERM").await?;
    assert_eq!(gateway.ended().await?.code(), Some(0));
    assert!(soon("the cut", waiting).await??.is_err());
    let records = env.decisions()?;
    assert_eq!(records.len(), 1, "the request left no record");
    assert_eq!(records[0]["outcome"], "failed", "{}", records[0]);
    assert_eq!(records[0]["reason"], "draining", "{}", records[0]);
    Ok(())
}
