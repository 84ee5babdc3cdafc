//! `users.setPhoto` with the SDKs: a multipart form on a route that removes the caller's token from forms.

use countersign_tests::{
    environment::DASHBOARD,
    resources::{Resource, Resources},
};
use serde_json::json;

use crate::harness::TestBed;

const PATH: &str = "/api/users.setPhoto";

fn photos() -> Resources {
    Resources::from([
        Resource::credential("slack-user", "slack").token_file("slack-user"),
        Resource::access("photos", DASHBOARD, "slack")
            .with("credentials", json!({"user": "slack-user"}))
            .allow(json!({"hosts": ["slack.com"], "methods": ["POST"], "paths": [PATH]})),
    ])
}

async fn bed() -> anyhow::Result<TestBed> {
    TestBed::builder()
        .prepare(|env, _| Ok(env.write_policy("photos.yaml", photos())?))
        .start()
        .await
}

/// What arrived is whole, with the user's token and without the dummy.
fn check(bed: &TestBed, photos: usize) {
    let received = bed.env.slack.received().at(PATH);
    assert_eq!(received.len(), photos);
    for request in received {
        assert!(request.complete && request.body_length > 2 * 1024 * 1024);
        let parts = request.parts.as_ref().expect("a form");
        assert!(parts.iter().any(|part| part.name == "image"), "{parts:?}");
        assert!(parts.iter().all(|part| part.name != "token"), "{parts:?}");
        let user = format!("Bearer {}", bed.env.slack.user_token());
        assert_eq!(request.header_values("authorization"), [user]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_sdk_sets_a_photo() {
    let bed = bed().await.unwrap();
    let Some(outcome) = bed.python("slack_photo.py").await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    assert_eq!(printed["photos"][0]["ok"], true, "{printed}");
    check(&bed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn web_api_sets_a_photo() {
    let bed = bed().await.unwrap();
    let Some(outcome) = bed.node("photo.mjs").await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    for photo in [0, 1] {
        assert_eq!(printed["photos"][photo]["ok"], true, "{printed}");
    }
    check(&bed, 2);
}
