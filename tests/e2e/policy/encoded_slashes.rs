//! Paths with encoded slashes: refused, unless the target says that its API has ids with slashes in them. Then they
//! are sent as they are, and no rule takes them for separators.

use countersign_tests::resources::Resources;
use http::StatusCode;
use http_body_util::Full;
use rstest::rstest;
use serde_json::json;

use crate::harness::{EXAMPLE, TestBed, get};

fn keep(policy: &mut Resources) {
    policy.target("example")["encodedSlash"] = json!("keep");
    policy.target("example")["routes"] = json!([
        {"paths": ["/projects/*/secrets/**"], "deny": "secrets"},
        {
            "paths": ["/projects/**"],
            "attach": {"slot": "token", "header": "Authorization", "value": "Bearer {token}"},
        },
    ]);
    policy.access(EXAMPLE)["allow"] = json!([
        {"methods": ["GET"], "paths": ["/projects/group%2Fproject/**", "/projects/*/public"]},
    ]);
}

#[rstest]
#[case::one_project("/projects/group%2Fproject/issues", None)]
#[case::any_segment("/projects/a%2Fb%2Fc/public", None)]
#[case::another_project("/projects/group%2Fother/issues", Some("request_not_allowed"))]
#[case::no_separator("/projects/group/project/issues", Some("request_not_allowed"))]
#[case::denied("/projects/group%2Fproject/secrets/1", Some("path_denied"))]
#[case::climbs("/projects/group%2F..%2Fproject/issues", Some("path_not_canonical"))]
#[case::climbs_at_the_end("/projects/group%2Fproject%2F../issues", Some("path_not_canonical"))]
#[case::empty("/projects/group%2F%2Fproject/public", Some("path_not_canonical"))]
#[case::lower_case("/projects/group%2fproject/issues", Some("path_not_canonical"))]
#[case::twice_encoded("/projects/group%252Fproject/issues", Some("path_not_canonical"))]
#[tokio::test]
async fn a_target_may_keep_them(
    #[case] path: &str,
    #[case] reason: Option<&str>,
) -> anyhow::Result<()> {
    let mut bed = TestBed::builder().policy(keep).start().await?;
    let answer = bed.client().send(get(path)).await?;
    if let Some(reason) = reason {
        bed.refused(reason).await?;
        return Ok(());
    }
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(bed.api.received().all()[0].path, path);
    assert_eq!(bed.record().await?["outcome"], "permitted");
    Ok(())
}

#[tokio::test]
async fn by_default_they_are_refused_with_what_to_do_about_it() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let answer = bed.client().send(get("/projects/group%2Fproject")).await?;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    let record = bed.refused("path_not_canonical").await?;
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("encodedSlash: keep"), "{detail}");
    Ok(())
}

/// Each request is judged by the target of its own host.
#[tokio::test]
async fn another_target_keeps_none() -> anyhow::Result<()> {
    let mut bed = TestBed::builder().policy(keep).start().await?;
    let request = http::Request::get("https://slack.com/api/auth%2Ftest");
    bed.client().send(request.body(Full::default())?).await?;
    bed.recorded("path_not_canonical").await?;
    Ok(())
}
