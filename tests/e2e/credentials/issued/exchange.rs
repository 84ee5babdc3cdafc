//! The pod's own token, exchanged: for this pod alone, until its run ends.

use countersign_core::clock::Clock;
use countersign_tests::fake::{Oauth, SignerKind, TokenRequest};
use http::StatusCode;
use jiff::SignedDuration;
use serde_json::json;

use super::{Issued, Obtained, start_with};
use crate::harness::{PATIENCE, get, until};

fn exchanged() -> Obtained {
    let spec = json!({
        "tokenUrl": Oauth::token_url(),
        "revokeUrl": Oauth::revoke_url(),
        "scopes": ["read"],
        "audience": "https://api.example.test",
    });
    ("tokenExchange", spec)
}

async fn start(clock: &Clock) -> anyhow::Result<Issued> {
    let further = json!({"revokeWhenIdle": true});
    let kind = SignerKind::Rs256;
    start_with(clock.clone(), "Bearer", kind, |_| exchanged(), further).await
}

fn pod(name: &str) -> TokenRequest {
    let mut request = TokenRequest::new("qa", "nightly-dashboard");
    request.pod = request.pod.map(|(_, uid)| (name.to_owned(), uid));
    request
}

#[tokio::test]
async fn t26_each_pod_has_a_token_and_connections_of_its_own() -> anyhow::Result<()> {
    let bed = start(&Clock::default()).await?;
    let pods = ["one", "two"].map(|name| (name, bed.env.issuer.mint(&pod(name))));
    let mut connections = Vec::new();
    for round in 0..3 {
        for (at, (name, token)) in pods.iter().enumerate() {
            let client = bed.client_with(token);
            let answer = client.send(get("/report")).await?;
            assert_eq!(answer.json()["subject"], *name, "{}", answer.text());
            let connection = answer.json()["connection"].clone();
            if round == 0 {
                connections.push(connection);
            } else {
                assert_eq!(connection, connections[at]);
            }
        }
    }
    assert_ne!(connections[0], connections[1], "they shared a connection");
    assert_eq!(bed.api.oauth.issued(), 2);
    Ok(())
}

#[tokio::test]
async fn at_the_end_of_the_run_it_is_revoked() -> anyhow::Result<()> {
    let clock = Clock::manual(Clock::system().now());
    let mut bed = start(&clock).await?;
    let mut request = pod("one");
    request.lifetime = SignedDuration::from_mins(10);
    let token = bed.env.issuer.mint(&request);
    let client = bed.client_with(&token);
    let answer = client.send(get("/report")).await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let record = bed.record().await?;
    // It would live an hour, but the pod's token does not.
    let left = record["credential"]["expires_in_s"].as_u64();
    assert!(left.is_some_and(|left| left <= 600), "{record}");
    assert_eq!(bed.api.oauth.good(), 1);

    clock.pass(clock.now() + SignedDuration::from_mins(10));
    let told = bed.api.oauth.received().wait_for(2, PATIENCE).await;
    assert!(told, "the issuer was not told");
    until("the revocation", async || bed.api.oauth.revocations() > 0).await?;
    assert_eq!(bed.api.oauth.good(), 0);
    Ok(())
}
