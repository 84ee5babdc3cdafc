//! One workload cannot have a credential that others use shut off, limited or rotated away.

use std::time::Duration;

use bytes::Bytes;
use countersign_tests::{
    client::{Answer, Client},
    gateway::Gateway,
    process,
    world::Options,
};
use http::{Request, StatusCode};
use http_body_util::Full;
use rstest::rstest;
use serde_json::Value;

use crate::credentials::recovery::{HOST, Scene, get};

/// How often an offender asks.
const TIMES: usize = 121;

/// The clients of the offender and of an honest workload.
fn both(scene: &Scene) -> (Client, Client) {
    let other = scene.world.token("qa", "other");
    (
        scene.client(),
        scene.gateway.client(&scene.world).bearer(&other),
    )
}

fn paths(scene: &Scene, path: &str) -> usize {
    scene.server.memory().at(path).len()
}

#[tokio::test]
async fn t65_a_workload_that_provokes_rejections_is_alone_with_them() -> anyhow::Result<()> {
    let scene = Scene::start().await?;
    let (offender, honest) = both(&scene);
    let (mut offender, mut honest) = (offender.open(HOST).await?, honest.open(HOST).await?);
    for _ in 0..TIMES {
        let rejected = offender.send(get("/never")).await?.json();
        assert_eq!(rejected["ok"], false, "{rejected}");
        let answer = honest.send(get("/fine")).await?;
        assert_eq!(answer.json()["ok"], true, "{answer:?}");
    }
    assert_eq!(paths(&scene, "/fine"), TIMES);
    // It is held back itself: one request a back-off reaches the API.
    let reached = paths(&scene, "/never");
    assert!(reached < 20, "{reached}");
    let records = scene.gateway.stop().await?;
    let of = |path: &'static str| {
        let records = records.iter();
        records.filter(move |record| record["target"]["path"] == path)
    };
    assert!(of("/fine").all(|record| record["outcome"] == "permitted"));
    let held = of("/never").find(|record| record["outcome"] == "refused");
    let held = held.expect("most were held back");
    assert_eq!(held["reason"], "credential_rejected", "{held}");
    let detail = held["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("requests of qa/nightly-dashboard"),
        "{detail}"
    );
    Ok(())
}

/// The near miss: what both meet is the credential's own fault.
#[tokio::test]
async fn t65_what_two_workloads_meet_holds_back_all() -> anyhow::Result<()> {
    let mut scene = Scene::start().await?;
    scene.get("/fine").await?;
    scene.record().await?;
    scene.expire("second-0a1b2c");
    let (one, other) = both(&scene);
    for client in [&one, &other] {
        let answer = client.send(get("/fine")).await?;
        assert_eq!(answer.json()["error"], "token_expired");
        scene.record().await?;
    }
    let before = scene.calls();
    for client in [&one, &other] {
        client.send(get("/fine")).await?;
        let record = scene.record().await?;
        // Unless a second has passed meanwhile, on a slow machine.
        if scene.calls() == before {
            assert_eq!(record["reason"], "credential_rejected", "{record}");
        }
    }
    // Another value is free to go at once.
    scene.replace("third-3c2b1a")?;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    tokio::time::resume();
    for client in [&one, &other] {
        assert_eq!(client.send(get("/fine")).await?.json()["ok"], true);
    }
    Ok(())
}

#[rstest]
#[case::of_its_path("path", None)]
#[case::of_all("credential", Some(60))]
#[tokio::test]
async fn t65_a_limit_that_one_workload_met_holds_for_what_it_speaks_of(
    #[case] per: &'static str,
    #[case] longest: Option<u64>,
) -> anyhow::Result<()> {
    let per = format!("rateLimit: {{ per: {per} }}");
    let scene = Scene::with(
        |policy| policy.replace("rateLimit: { per: path }", &per),
        |_| {},
    );
    let scene = scene.await?;
    let (offender, honest) = both(&scene);
    for _ in 0..5 {
        let answer = offender.send(get("/limited")).await?;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(paths(&scene, "/limited"), 1);
    let answer = honest.send(get("/fine")).await?;
    match longest {
        None => assert_eq!(answer.json()["ok"], true, "{answer:?}"),
        Some(longest) => {
            let wait: u64 = answer.header("retry-after").unwrap_or_default().parse()?;
            assert!((1..=longest).contains(&wait), "{wait}");
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(longest)).await;
            tokio::time::resume();
            let answer = honest.send(get("/fine")).await?;
            assert_eq!(answer.json()["ok"], true, "{answer:?}");
        }
    }
    // For who met it, it holds for as long as the API said, an hour at most.
    let answer = offender.send(get("/limited")).await?;
    let wait: u64 = answer.header("retry-after").unwrap_or_default().parse()?;
    assert!((3_000..=3_600).contains(&wait), "{wait}");
    assert_eq!(paths(&scene, "/limited"), 1);
    Ok(())
}

/// A second workload with the dashboard's rotating token.
const OTHER: &str = r#"
apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: other, namespace: qa }
spec:
  owner: qa-platform@example.com
  purpose: Shares the credential
  reviewBy: 2099-06-30
  match: [{ cluster: prod-eu, serviceAccount: other }]
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: other-posts, namespace: qa }
spec:
  owner: qa-platform@example.com
  workloads: [other]
  target: slack
  credential: slack-bot
  allow:
    - { hosts: [slack.com], methods: [POST], paths: ["/api/*"] }
"#;

async fn call(client: &Client, method: &str) -> anyhow::Result<Answer> {
    let request = Request::post(format!("https://slack.com/api/{method}"))
        .header("content-type", "application/json")
        .body(Full::<Bytes>::from(r#"{"channel":"C0","text":"hello"}"#))?;
    Ok(client.send(request).await?)
}

#[tokio::test]
async fn t65_a_workload_cannot_have_a_token_rotated_away_from_others() -> anyhow::Result<()> {
    let seed = crate::credentials::rotation::REFRESH_TOKEN;
    let world = crate::credentials::rotation::world_with(Options::default(), seed).await?;
    world.write_policy("other.yaml", OTHER)?;
    let gateway = Gateway::start(&world).await?;
    let client = |name: &str| gateway.client(&world).bearer(&world.token("qa", name));
    let (offender, honest) = (client("other"), client("nightly-dashboard"));
    // Slack says of what only this one asks for that the token has expired, and takes it otherwise.
    let provoked = "conversations.history";
    world.slack.fail(provoked, usize::MAX, "token_expired");
    for _ in 0..60 {
        call(&offender, provoked).await?;
        assert_eq!(call(&offender, "auth.test").await?.status, StatusCode::OK);
        let answer = call(&honest, "chat.postMessage").await?.json();
        assert_eq!(answer["ok"], true, "{answer}");
    }
    let refreshes = world.slack.refreshes();
    assert!((2..=5).contains(&refreshes), "{refreshes}");
    assert_eq!(world.slack.messages("C0").len(), 60);
    // An operator sees whose requests are held back, and that it is not the credential's fault.
    call(&offender, provoked).await?;
    let answer = process::admin(gateway.admin().expect("there is one"), "/credentials").await?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let all: Value = serde_json::from_str(body)?;
    let all = all["credentials"].as_array().expect("a list");
    let bot = all.iter().find(|one| one["name"] == "qa/slack-bot");
    let bot = bot.expect("it is used");
    assert_eq!(bot["state"], "good", "{bot}");
    assert!(bot["health"]["rejected"].is_null(), "{bot}");
    assert!(
        bot["health"]["held_back"]["qa/other at slack.com"].is_string(),
        "{bot}"
    );
    Ok(())
}
