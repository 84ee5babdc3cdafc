use bytes::Bytes;
use http::{Request, header::AUTHORIZATION};
use http_body_util::Full;
use rstest::rstest;
use serde_json::json;

mod files;
mod names;
mod rotation;
mod socket;

use super::*;
use crate::{
    client::{Answer, Client, Failure},
    fake::Protocol,
};

const DUMMY: &str = "xoxb-000000000000-0000000000000-countersigncountersign00";

struct Bench {
    slack: Slack,
    clock: Clock,
}

impl Bench {
    async fn start() -> Self {
        let clock = Clock::manual("2026-11-23T05:10:00Z".parse().unwrap());
        let slack = Slack::start(&Authority::default(), clock.clone())
            .await
            .unwrap();
        Self { slack, clock }
    }

    fn client(&self) -> Client {
        Client::direct(self.slack.address(), self.slack.ca_pem())
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        self.client().send(request).await.unwrap()
    }

    /// A form call with a token in the header.
    async fn call(&self, method: &str, token: &str, form: &str) -> Value {
        let request = post(&format!("https://slack.com/api/{method}"))
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header("content-type", "application/x-www-form-urlencoded");
        self.send(with(request, form)).await.json()
    }
}

fn post(url: &str) -> http::request::Builder {
    Request::post(url)
}

fn with(request: http::request::Builder, body: &str) -> Request<Full<Bytes>> {
    request.body(Full::new(body.to_owned().into())).unwrap()
}

#[rstest]
#[case::header(Some("{bot}"), None, None, "ok")]
#[case::form(None, Some("token={bot}"), None, "ok")]
#[case::both_the_same(Some("{bot}"), Some("token={bot}"), None, "ok")]
#[case::user_token(Some("{user}"), None, None, "ok")]
#[case::dummy_in_the_form(Some("{bot}"), Some("token={dummy}"), None, "invalid_auth")]
#[case::two_in_the_form(Some("{bot}"), Some("token={bot}&token={bot}"), None, "invalid_auth")]
#[case::dummy_in_the_header(Some("{dummy}"), None, None, "invalid_auth")]
#[case::prefix_alone(Some("xoxb-"), None, None, "invalid_auth")]
#[case::one_letter_more(Some("{bot}x"), None, None, "invalid_auth")]
#[case::app_token(Some("{app}"), None, None, "not_allowed_token_type")]
#[case::nothing(None, None, None, "not_authed")]
#[case::in_the_query(None, None, Some("token={bot}"), "not_authed")]
#[tokio::test]
async fn a_token_counts_in_header_or_form_only(
    #[case] header: Option<&str>,
    #[case] form: Option<&str>,
    #[case] query: Option<&str>,
    #[case] expected: &str,
) {
    let bench = Bench::start().await;
    let fill = |text: &str| {
        text.replace("{bot}", &bench.slack.bot_token())
            .replace("{user}", &bench.slack.user_token())
            .replace("{app}", &bench.slack.app_token())
            .replace("{dummy}", DUMMY)
    };
    let query = query
        .map(|query| format!("?{}", fill(query)))
        .unwrap_or_default();
    let mut request = post(&format!("https://slack.com/api/auth.test{query}"))
        .header("content-type", "application/x-www-form-urlencoded");
    if let Some(header) = header {
        request = request.header(AUTHORIZATION, format!("Bearer {}", fill(header)));
    }
    let answer = bench
        .send(with(request, &form.map(fill).unwrap_or_default()))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    let value = answer.json();
    let outcome = value["error"].as_str().unwrap_or("ok");
    assert_eq!(outcome, expected);
    assert_eq!(value["ok"], expected == "ok");
}

#[tokio::test]
async fn a_token_in_a_json_attribute_does_not_count() {
    let bench = Bench::start().await;
    let body = json!({"token": bench.slack.bot_token()}).to_string();
    let request =
        post("https://slack.com/api/auth.test").header("content-type", "application/json");
    assert_eq!(
        bench.send(with(request, &body)).await.json()["error"],
        "not_authed"
    );
}

#[tokio::test]
async fn two_authorization_headers_are_no_token() {
    let bench = Bench::start().await;
    let good = format!("Bearer {}", bench.slack.bot_token());
    let request = post("https://slack.com/api/auth.test")
        .header(AUTHORIZATION, &good)
        .header(AUTHORIZATION, &good);
    assert_eq!(
        bench.send(with(request, "")).await.json()["error"],
        "invalid_auth"
    );
}

#[rstest]
#[tokio::test]
async fn a_message_is_posted_and_read(
    #[values(Protocol::Http1, Protocol::Http2)] protocol: Protocol,
    #[values(true, false)] as_json: bool,
) {
    let bench = Bench::start().await;
    let (kind, body) = if as_json {
        (
            "application/json; charset=utf-8",
            r#"{"channel":"C1","text":"2 of 14 failed"}"#,
        )
    } else {
        (
            "application/x-www-form-urlencoded",
            "channel=C1&text=2+of+14+failed",
        )
    };
    let request = post("https://slack.com/api/chat.postMessage")
        .header(AUTHORIZATION, format!("Bearer {}", bench.slack.bot_token()))
        .header("content-type", kind);
    let client = bench.client().over(protocol);
    let posted = client.send(with(request, body)).await.unwrap().json();
    assert_eq!(posted["ok"], true, "{posted}");
    assert_eq!(posted["message"]["text"], "2 of 14 failed");
    assert_eq!(posted["ts"], "1795410600.000001");
    assert_eq!(bench.slack.messages("C1"), ["2 of 14 failed"]);

    bench
        .call(
            "chat.postMessage",
            &bench.slack.bot_token(),
            "channel=C1&text=second",
        )
        .await;
    let history = bench
        .call(
            "conversations.history",
            &bench.slack.bot_token(),
            "channel=C1&limit=1",
        )
        .await;
    assert_eq!(history["messages"][0]["text"], "second");
    assert_eq!(history["has_more"], true);
    let cursor = history["response_metadata"]["next_cursor"]
        .as_str()
        .unwrap();
    let rest = bench
        .call(
            "conversations.history",
            &bench.slack.bot_token(),
            &format!("channel=C1&cursor={cursor}"),
        )
        .await;
    assert_eq!(rest["messages"][0]["text"], "2 of 14 failed");
    assert_eq!(rest["has_more"], false);

    let received = bench.slack.received().at("/api/chat.postMessage");
    assert_eq!(received[0].connection.protocol, protocol);
    assert_eq!(received[0].host, "slack.com");
}

#[rstest]
#[case("chat.postMessage", "text=x", "channel_not_found")]
#[case("chat.postMessage", "channel=nowhere&text=x", "channel_not_found")]
#[case("chat.postMessage", "channel=C1", "no_text")]
#[case("conversations.history", "channel=C1&limit=0", "invalid_limit")]
#[case("conversations.history", "channel=C1&limit=ten", "invalid_limit")]
#[case("files.getUploadURLExternal", "filename=a.txt", "invalid_arguments")]
#[case("files.completeUploadExternal", "files=[]", "invalid_arguments")]
#[case("chat.postMassage", "channel=C1&text=x", "unknown_method")]
#[case("apps.connections.open", "", "not_allowed_token_type")]
#[case("apps.manifest.export", "", "not_allowed_token_type")]
#[tokio::test]
async fn mistakes_are_named(#[case] method: &str, #[case] form: &str, #[case] error: &str) {
    let bench = Bench::start().await;
    let answer = bench.call(method, &bench.slack.bot_token(), form).await;
    assert_eq!(answer["error"], error);
}

#[tokio::test]
async fn scopes_are_checked_and_reported() {
    let bench = Bench::start().await;
    bench.slack.set_scopes(&["files:read", "channels:history"]);
    let request = post("https://slack.com/api/chat.postMessage?channel=C1&text=x")
        .header(AUTHORIZATION, format!("Bearer {}", bench.slack.bot_token()));
    let answer = bench.send(with(request, "")).await;
    assert_eq!(
        answer.header("x-oauth-scopes"),
        Some("files:read,channels:history")
    );
    assert_eq!(answer.header("x-accepted-oauth-scopes"), Some("chat:write"));
    let value = answer.json();
    assert_eq!(value["error"], "missing_scope");
    assert_eq!(value["needed"], "chat:write");
    assert_eq!(value["provided"], "files:read,channels:history");
    assert!(bench.slack.messages("C1").is_empty());
}

#[tokio::test]
async fn limits_and_failures_last_as_long_as_they_were_set_for() {
    let bench = Bench::start().await;
    let token = bench.slack.bot_token();
    bench.slack.limit("auth.test", 1, 30);
    bench.slack.fail("auth.test", 1, "internal_error");
    let request =
        post("https://slack.com/api/auth.test").header(AUTHORIZATION, format!("Bearer {token}"));
    let answer = bench.send(with(request, "")).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.header("retry-after"), Some("30"));
    assert_eq!(answer.json()["error"], "ratelimited");
    assert_eq!(
        bench.call("auth.test", &token, "").await["error"],
        "internal_error"
    );
    assert_eq!(bench.call("auth.test", &token, "").await["ok"], true);
}

#[tokio::test]
async fn a_replaced_or_revoked_token_is_told_from_an_unknown_one() {
    let bench = Bench::start().await;
    let old = bench.slack.bot_token();
    let new = bench.slack.replace_bot_token();
    assert_eq!(
        bench.call("auth.test", &old, "").await["error"],
        "token_revoked"
    );
    assert_eq!(bench.call("auth.revoke", &new, "").await["revoked"], true);
    assert_eq!(
        bench.call("auth.test", &new, "").await["error"],
        "token_revoked"
    );
}

#[tokio::test]
async fn a_name_that_is_not_slacks_gets_no_handshake() {
    let bench = Bench::start().await;
    for host in ["notslack.com", "slack.com.evil.test", "api.qase.io"] {
        let failure = bench.client().open(host).await.err();
        assert!(matches!(failure, Some(Failure::Connect(_))), "{host}");
    }
}

#[rstest]
#[tokio::test]
async fn another_host_on_the_connection_is_misdirected(
    #[values(Protocol::Http1, Protocol::Http2)] protocol: Protocol,
) {
    let bench = Bench::start().await;
    let mut session = bench
        .client()
        .over(protocol)
        .open("slack.com")
        .await
        .unwrap();
    let request = post("https://files.slack.com/upload/v1/x");
    let answer = session.send(with(request, "")).await.unwrap();
    assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST);
}
