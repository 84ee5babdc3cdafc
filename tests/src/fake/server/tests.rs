use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use rstest::rstest;

use super::*;
use crate::client::{Answer, Client, Failure};

struct Ok200;

impl Api for Ok200 {
    async fn answer(&self, exchange: Exchange) -> Response<Body> {
        exchange.read().await;
        body::text(StatusCode::OK, "fine\n")
    }
}

async fn start() -> (Server, Client) {
    let authority = Authority::default();
    let server = Server::start(&authority, &["api.example"], Arc::new(Ok200))
        .await
        .unwrap();
    let client = Client::direct(server.address(), &authority.pem());
    (server, client)
}

fn request() -> Request<Full<Bytes>> {
    Request::get("https://api.example/x")
        .header("authorization", "Bearer s3cret")
        .body(Full::default())
        .unwrap()
}

/// What became of one request.
async fn outcome(client: &Client) -> Option<Result<Answer, Failure>> {
    within(Duration::from_secs(10), client).await
}

async fn within(limit: Duration, client: &Client) -> Option<Result<Answer, Failure>> {
    tokio::time::timeout(limit, client.send(request()))
        .await
        .ok()
}

#[rstest]
#[case(Misbehaviour::ResetOnAccept)]
#[case(Misbehaviour::NoTls)]
#[case(Misbehaviour::WrongName)]
#[case(Misbehaviour::UntrustedAuthority)]
#[case(Misbehaviour::ExpiredCertificate)]
#[tokio::test]
async fn some_break_the_connection(#[case] how: Misbehaviour) {
    let (server, client) = start().await;
    assert!(outcome(&client).await.unwrap().is_ok());
    server.misbehave(Some(how));
    let broken = outcome(&client).await.unwrap();
    assert!(matches!(broken, Err(Failure::Connect(_))), "{broken:?}");
    server.misbehave(None);
    assert!(outcome(&client).await.unwrap().is_ok());
    assert_eq!(server.memory().count(), 2);
}

#[rstest]
#[tokio::test]
async fn some_break_the_exchange(
    #[values(Protocol::Http1, Protocol::Http2)] protocol: Protocol,
    #[values(
        Misbehaviour::ResetAfterRequest,
        Misbehaviour::ResetInBody,
        Misbehaviour::Garbage
    )]
    how: Misbehaviour,
) {
    let (server, client) = start().await;
    server.misbehave(Some(how));
    let broken = outcome(&client.over(protocol)).await.unwrap();
    assert!(matches!(broken, Err(Failure::Exchange(_))), "{broken:?}");
}

#[rstest]
#[tokio::test]
async fn some_never_answer(
    #[values(
        Misbehaviour::Stall,
        Misbehaviour::StallInBody,
        Misbehaviour::StallBeforeTls
    )]
    how: Misbehaviour,
) {
    let (server, client) = start().await;
    server.misbehave(Some(how));
    // That something never happens shows only as a bound that passes; answers take about 1 ms.
    assert!(within(Duration::from_millis(100), &client).await.is_none());
}

#[tokio::test]
async fn one_shows_what_it_was_sent() {
    let (server, client) = start().await;
    server.misbehave(Some(Misbehaviour::Echo));
    let answer = outcome(&client).await.unwrap().unwrap();
    assert!(answer.text().contains("Bearer s3cret"));
    assert_eq!(answer.header("x-echo-authorization"), Some("Bearer s3cret"));
}

#[tokio::test]
async fn http2_can_be_withdrawn() {
    let (server, client) = start().await;
    let client = client.over(Protocol::Http2);
    let before = client.send(request()).await.unwrap();
    assert_eq!(before.version, http::Version::HTTP_2);
    server.set_only_http1(true);
    let failure = client.send(request()).await.err();
    assert!(
        matches!(failure, Some(Failure::Connect(_))),
        "no common protocol"
    );
}

#[tokio::test]
async fn connections_are_counted() {
    let (server, client) = start().await;
    let mut session = client.open("api.example").await.unwrap();
    session.send(request()).await.unwrap();
    session.send(request()).await.unwrap();
    assert_eq!(
        (server.open_connections(), server.accepted_connections()),
        (1, 1)
    );
    assert!(server.memory().wait_for(2, Duration::from_secs(5)).await);
    let numbers: Vec<u64> = server
        .memory()
        .all()
        .iter()
        .map(|seen| seen.connection.number)
        .collect();
    assert_eq!(numbers, [1, 1]);
}

#[tokio::test]
async fn memory_finds_what_must_not_be_there_and_shows_nothing() {
    let (server, client) = start().await;
    let form = Request::post("https://api.example/p%2Fq?a=b")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from("token=a%2Db&x=1+2")))
        .unwrap();
    client.send(form).await.unwrap();
    let memory = server.memory();
    assert_eq!(memory.holding(&["a-b"]).len(), 1, "percent-encoded");
    assert_eq!(memory.holding(&["a-c"]).len(), 0);
    let received = &memory.all()[0];
    assert_eq!(
        received.form(),
        [("token".into(), "a-b".into()), ("x".into(), "1 2".into())]
    );
    assert!(!format!("{received:?}").contains("a%2Db"));
    memory.set_forgetful(true);
    client.send(request()).await.unwrap();
    assert_eq!((memory.count(), memory.all().len()), (2, 1));
}
