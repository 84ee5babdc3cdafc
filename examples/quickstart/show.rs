//! What is printed. Credentials are compared here, never shown.

use std::{net::SocketAddr, sync::Arc};

use countersign_core::clock::Clock;
use countersign_tests::{client::Answer, environment::Environment, fake::Received};
use http::HeaderMap;
use serde_json::Value;

use crate::job::{Call, Expected};

/// The headers in which a credential may stand.
const CREDENTIAL_HEADERS: [&str; 2] = ["authorization", "token"];

/// Says what runs where.
#[expect(clippy::print_stdout, reason = "this program is for a terminal")]
pub(crate) fn opening(address: SocketAddr, clock: &Clock) {
    println!(
        "A gateway listens on {address}; for it and the job it is {}.",
        clock.now()
    );
    println!("The job holds a service-account token, and no credential of Slack or Qase.");
}

/// What came of a call at the API.
pub(crate) enum Arrival {
    /// The API is the real one, which tells nobody.
    Unseen,
    /// It never came.
    None,
    /// The stand-in received it.
    Received(Arc<Received>),
}

/// Shows one call; returns whether it went as the policy says.
#[expect(clippy::print_stdout, reason = "this program is for a terminal")]
pub(crate) fn call(
    number: usize,
    call: &Call,
    arrival: &Arrival,
    env: &Environment,
    answer: &Answer,
    decision: &Value,
) -> bool {
    println!(
        "\n{number}. {}\n   {} {}",
        call.purpose, call.method, call.url
    );
    row("the job sent", &sent(call));
    row(
        "the API received",
        &match arrival {
            Arrival::Unseen => "(the real API)".to_owned(),
            Arrival::None => "nothing".to_owned(),
            Arrival::Received(received) => arrived(received, env),
        },
    );
    row(
        "the job got",
        &format!("{} {}", answer.status, excerpt(&answer.text())),
    );
    row("decision", &told(decision));
    let word = |name: &str| decision[name].as_str().unwrap_or_default();
    match call.expected {
        Expected::Permitted => word("outcome") == "permitted" && answer.status.is_success(),
        Expected::Refused(reason) => {
            word("outcome") == "refused"
                && word("reason") == reason
                && !matches!(arrival, Arrival::Received(_))
        }
    }
}

/// Says how it went.
#[expect(clippy::print_stdout, reason = "this program is for a terminal")]
pub(crate) fn closing(failed: usize) {
    let verdict = if failed == 0 {
        "Every call went as the policy says."
    } else {
        "Not as it should."
    };
    println!("\n{verdict} The policy is in examples/nightly-dashboard/policy.");
}

#[expect(clippy::print_stdout, reason = "this program is for a terminal")]
fn row(name: &str, text: &str) {
    println!("   {name:<17}| {text}");
}

fn sent(call: &Call) -> String {
    let header = call
        .headers
        .iter()
        .find(|(name, _)| CREDENTIAL_HEADERS.contains(name));
    let header = header.map(|(name, value)| format!("{name}: {value}"));
    let field = call
        .body
        .split('&')
        .find(|field| field.starts_with("token="));
    let parts: Vec<_> = header.into_iter().chain(field.map(str::to_owned)).collect();
    if parts.is_empty() {
        "no credential".to_owned()
    } else {
        format!("{} (dummies)", parts.join(", "))
    }
}

fn arrived(received: &Received, env: &Environment) -> String {
    let mut found = Vec::new();
    for name in CREDENTIAL_HEADERS {
        for value in values(&received.headers, name) {
            let real = env
                .secrets()
                .iter()
                .any(|secret| value.ends_with(secret.as_str()));
            let what = if real {
                "the real credential"
            } else {
                "not the real credential!"
            };
            found.push(format!("{name}: {what} ({} characters)", value.len()));
        }
    }
    if received.contains("dummy") {
        found.push("a dummy!".to_owned());
    }
    if found.is_empty() {
        "no credential".to_owned()
    } else {
        found.join(", ")
    }
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect()
}

fn told(decision: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let outcome = word(&decision["outcome"]);
    if outcome == "permitted" {
        let credential = &decision["credential"];
        let with = if credential.is_null() {
            "no credential".to_owned()
        } else {
            format!(
                "{}, {} s old",
                word(&credential["name"]),
                credential["age_s"]
            )
        };
        let policy = &decision["policy"];
        let took = &decision["timing_us"]["total"];
        return format!(
            "permitted by {} rule {}, with {with}; {took} us",
            word(&policy["name"]),
            policy["rule"]
        );
    }
    let mut text = format!(
        "{outcome}: {} (blame: {}). {}",
        word(&decision["reason"]),
        word(&decision["blame"]),
        word(&decision["detail"])
    );
    if let Some(nearest) = decision["nearest"].as_object() {
        let rule = nearest.get("policy").map(&word).unwrap_or_default();
        text = format!("{text} Nearest: {rule}.");
    }
    text
}

fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(110).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}
