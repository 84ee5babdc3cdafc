//! The pod's own token, exchanged: for this pod alone, until its run ends.

use countersign_core::clock::Clock;
use countersign_tests::{fake::TokenRequest, world::Options};
use http::StatusCode;
use jiff::SignedDuration;

use super::Issued;
use crate::harness::site::{PATIENCE, get, soon};

const EXCHANGED: &str = "  tokenExchange:
    tokenUrl: {token_url}
    revokeUrl: {revoke_url}
    scopes: [read]
    audience: https://api.example.test
  revokeWhenIdle: true
";

fn pod(name: &str) -> TokenRequest {
    let mut request = TokenRequest::new("qa", "nightly-dashboard");
    request.pod = request.pod.map(|(_, uid)| (name.to_owned(), uid));
    request
}

#[tokio::test]
async fn t26_each_pod_has_a_token_and_connections_of_its_own() -> anyhow::Result<()> {
    let issued = Issued::start(Options::default(), EXCHANGED).await?;
    let pods = ["one", "two"].map(|name| (name, issued.world.issuer.mint(&pod(name))));
    let mut connections = Vec::new();
    for round in 0..3 {
        for (at, (name, token)) in pods.iter().enumerate() {
            let client = issued.gateway.client(&issued.world).bearer(token);
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
    assert_eq!(issued.oauth.issued(), 2);
    Ok(())
}

#[tokio::test]
async fn at_the_end_of_the_run_it_is_revoked() -> anyhow::Result<()> {
    let clock = Clock::manual(Clock::system().now());
    let options = Options {
        clock: clock.clone(),
        ..Options::default()
    };
    let mut issued = Issued::start(options, EXCHANGED).await?;
    let mut request = pod("one");
    request.lifetime = SignedDuration::from_mins(10);
    let token = issued.world.issuer.mint(&request);
    let client = issued.gateway.client(&issued.world).bearer(&token);
    let answer = client.send(get("/report")).await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let record = issued.record().await?;
    // It would live an hour, but the pod's token does not.
    let left = record["credential"]["expires_in_s"].as_u64();
    assert!(left.is_some_and(|left| left <= 600), "{record}");
    assert_eq!(issued.oauth.good(), 1);

    clock.pass(clock.now() + SignedDuration::from_mins(10));
    let told = issued.oauth.received().wait_for(2, PATIENCE).await;
    assert!(told, "the issuer was not told");
    soon("the revocation", async {
        while issued.oauth.revocations() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    assert_eq!(issued.oauth.good(), 0);
    Ok(())
}
