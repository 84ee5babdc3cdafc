//! The requests that most tests make.

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;

use super::{DUMMY_BOT, HOST};

/// A request without a body to the example API.
pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://{HOST}{path}"))
        .body(Full::default())
        .expect("the paths of tests are valid")
}

/// Asks Slack whose token it is.
pub(crate) fn auth_test() -> Request<Full<Bytes>> {
    Request::post("https://slack.com/api/auth.test")
        .header(header::AUTHORIZATION, format!("Bearer {DUMMY_BOT}"))
        .body(Full::default())
        .expect("a request")
}

/// Posts a message to a channel of Slack.
pub(crate) fn post_message(channel: &str, text: &str) -> Request<Full<Bytes>> {
    let body = serde_json::json!({"channel": channel, "text": text}).to_string();
    Request::post("https://slack.com/api/chat.postMessage")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(body))
        .expect("a request")
}

/// Lists the runs of Qase's project.
pub(crate) fn list_runs() -> Request<Full<Bytes>> {
    Request::get("https://api.qase.io/v1/run/DEMO?limit=1")
        .body(Full::default())
        .expect("a request")
}
