//! Socket Mode.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest as _};

use super::*;

async fn open_socket(bench: &Bench) -> String {
    let answer = bench
        .call("apps.connections.open", &bench.slack.app_token(), "")
        .await;
    answer["url"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_app_token_in_the_form_does_not_open_a_socket() {
    let bench = Bench::start().await;
    let form = format!("token={}", bench.slack.app_token());
    let request = post("https://slack.com/api/apps.connections.open")
        .header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(
        bench.send(with(request, &form)).await.json()["error"],
        "not_authed"
    );
}

#[tokio::test]
async fn a_socket_greets_delivers_and_says_goodbye() {
    let bench = Bench::start().await;
    let url = open_socket(&bench).await;
    let stream = bench
        .client()
        .tls_stream("wss-primary.slack.com")
        .await
        .unwrap();
    let request = url.as_str().into_client_request().unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap();
    let mut texts = Vec::new();
    while texts.len() < 2 {
        if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
            texts.push(serde_json::from_str::<Value>(&text).unwrap());
        }
    }
    assert_eq!(texts[0]["type"], "hello");
    assert_eq!(texts[1]["type"], "events_api");
    let id = texts[1]["envelope_id"].as_str().unwrap();
    for id in ["not-an-envelope", id] {
        let ack = json!({"envelope_id": id}).to_string();
        socket.send(Message::Text(ack.into())).await.unwrap();
    }
    // The pong answers only what was read before it, so that the acknowledgement is in.
    socket.send(Message::Ping("2".into())).await.unwrap();
    while socket.next().await.unwrap().unwrap() != Message::Pong("2".into()) {}
    assert_eq!(bench.slack.acknowledged(), [id]);
    assert_eq!(bench.slack.open_sockets(), 1);

    bench.slack.disconnect_sockets();
    let goodbye = socket.next().await.unwrap().unwrap();
    assert!(goodbye.to_text().unwrap().contains("refresh_requested"));
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
}

#[tokio::test]
async fn a_ticket_works_once() {
    let bench = Bench::start().await;
    let url = open_socket(&bench).await;
    for expected in [101, 401] {
        let stream = bench
            .client()
            .tls_stream("wss-primary.slack.com")
            .await
            .unwrap();
        let request = url.as_str().into_client_request().unwrap();
        let status = match tokio_tungstenite::client_async(request, stream).await {
            Ok((_, response)) => response.status(),
            Err(Error::Http(response)) => response.status(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(status.as_u16(), expected);
    }
}
