//! One workload cannot have a credential that others use shut off, limited or rotated away.

use std::time::Duration;

use countersign_tests::{
    client::{Answer, Client},
    resources::{Resource, Resources},
};
use http::StatusCode;
use rstest::rstest;
use serde_json::json;

use crate::{
    credentials::{
        recovery::{HOST, RejectingApi, get, replace_token},
        rotation::{REFRESH_TOKEN, rotating},
    },
    harness::{TestBed, pass, post_message},
};

/// How often an offender asks.
const TIMES: usize = 121;

/// The clients of the offender and of an honest workload.
fn both(bed: &TestBed<RejectingApi>) -> (Client, Client) {
    (bed.client(), bed.client_of("other"))
}

fn paths(bed: &TestBed<RejectingApi>, path: &str) -> usize {
    bed.api.received().at(path).len()
}

#[tokio::test]
async fn t65_a_workload_that_provokes_rejections_is_alone_with_them() -> anyhow::Result<()> {
    let bed = TestBed::with_api(RejectingApi::new()).start().await?;
    let (offender, honest) = both(&bed);
    let (mut offender, mut honest) = (offender.open(HOST).await?, honest.open(HOST).await?);
    for _ in 0..TIMES {
        let rejected = offender.send(get("/never")).await?.json();
        assert_eq!(rejected["ok"], false, "{rejected}");
        let answer = honest.send(get("/fine")).await?;
        assert_eq!(answer.json()["ok"], true, "{answer:?}");
    }
    assert_eq!(paths(&bed, "/fine"), TIMES);
    // It is held back itself: one request a back-off reaches the API.
    let reached = paths(&bed, "/never");
    assert!(reached < 20, "{reached}");
    let records = bed.gateway.stop().await?;
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
    let mut bed = TestBed::with_api(RejectingApi::new()).start().await?;
    bed.client().send(get("/fine")).await?;
    bed.record().await?;
    bed.api.expire("second-0a1b2c");
    let (one, other) = both(&bed);
    for client in [&one, &other] {
        let answer = client.send(get("/fine")).await?;
        assert_eq!(answer.json()["error"], "token_expired");
        bed.record().await?;
    }
    let before = bed.api.received().count();
    for client in [&one, &other] {
        client.send(get("/fine")).await?;
        let record = bed.record().await?;
        // Unless a second has passed meanwhile, on a slow machine.
        if bed.api.received().count() == before {
            assert_eq!(record["reason"], "credential_rejected", "{record}");
        }
    }
    // Another value is free to go at once.
    replace_token(&bed, "third-3c2b1a")?;
    pass(Duration::from_secs(2)).await;
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
    let bed = TestBed::with_api(RejectingApi::new())
        .policy(|policy| policy.target("rejects")["rateLimit"] = json!({"per": per}))
        .start()
        .await?;
    let (offender, honest) = both(&bed);
    for _ in 0..5 {
        let answer = offender.send(get("/limited")).await?;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(paths(&bed, "/limited"), 1);
    let answer = honest.send(get("/fine")).await?;
    match longest {
        None => assert_eq!(answer.json()["ok"], true, "{answer:?}"),
        Some(longest) => {
            let wait: u64 = answer.header("retry-after").unwrap_or_default().parse()?;
            assert!((1..=longest).contains(&wait), "{wait}");
            pass(Duration::from_secs(longest)).await;
            let answer = honest.send(get("/fine")).await?;
            assert_eq!(answer.json()["ok"], true, "{answer:?}");
        }
    }
    // For who met it, it holds for as long as the API said, an hour at most.
    let answer = offender.send(get("/limited")).await?;
    let wait: u64 = answer.header("retry-after").unwrap_or_default().parse()?;
    assert!((3_000..=3_600).contains(&wait), "{wait}");
    assert_eq!(paths(&bed, "/limited"), 1);
    Ok(())
}

/// A second workload with the dashboard's rotating token.
fn other_posts() -> Resources {
    let rule = json!({"hosts": ["slack.com"], "methods": ["POST"], "paths": ["/api/*"]});
    Resources::from([
        Resource::workload("other"),
        Resource::access("other-posts", "other", "slack")
            .credential_named("slack-bot")
            .allow(rule),
    ])
}

async fn call(client: &Client, method: &str) -> anyhow::Result<Answer> {
    let mut request = post_message("C0", "hello");
    *request.uri_mut() = format!("https://slack.com/api/{method}").parse()?;
    Ok(client.send(request).await?)
}

#[tokio::test]
async fn t65_a_workload_cannot_have_a_token_rotated_away_from_others() -> anyhow::Result<()> {
    let bed = rotating(REFRESH_TOKEN)
        .prepare(|env, _| Ok(env.write_policy("other.yaml", other_posts())?))
        .start()
        .await?;
    let (offender, honest) = (bed.client_of("other"), bed.client());
    let slack = &bed.env.slack;
    // Slack says of what only this one asks for that the token has expired, and takes it otherwise.
    let provoked = "conversations.history";
    slack.fail(provoked, usize::MAX, "token_expired");
    for _ in 0..60 {
        call(&offender, provoked).await?;
        assert_eq!(call(&offender, "auth.test").await?.status, StatusCode::OK);
        let answer = call(&honest, "chat.postMessage").await?.json();
        assert_eq!(answer["ok"], true, "{answer}");
    }
    let refreshes = slack.refreshes();
    assert!((2..=5).contains(&refreshes), "{refreshes}");
    assert_eq!(slack.messages("C0").len(), 60);
    // An operator sees whose requests are held back, and that it is not the credential's fault.
    call(&offender, provoked).await?;
    let bot = bed.credential("qa/slack-bot").await?;
    assert_eq!(bot["state"], "good", "{bot}");
    assert!(bot["health"]["rejected"].is_null(), "{bot}");
    assert!(
        bot["health"]["held_back"]["qa/other at slack.com"].is_string(),
        "{bot}"
    );
    Ok(())
}
