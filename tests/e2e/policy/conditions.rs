//! Rates are held to and told in whole seconds; what is only observed passes and is recorded.

use std::fs;

use countersign_tests::gateway::Gateway;
use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{EXAMPLE, HOST, SECRET, TestBed, get, until};

#[tokio::test]
async fn a_rate_is_held_to_and_says_when_to_come_back() -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .policy(|policy| policy.access(EXAMPLE)["conditions"] = json!({"rate": "2/h"}))
        .start()
        .await?;
    let mut session = bed.client().open(HOST).await?;
    for _ in 0..2 {
        assert_eq!(session.send(get("/some")).await?.status, StatusCode::OK);
        assert_eq!(bed.record().await?["outcome"], "permitted");
    }
    let answer = session.send(get("/some")).await?;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = answer.header("retry-after").unwrap_or_default().parse()?;
    assert!((1..=3600).contains(&wait), "{wait}");
    assert_eq!(bed.record().await?["reason"], "rate_limited");
    assert_eq!(bed.api.received().count(), 2);
    Ok(())
}

#[tokio::test]
async fn what_a_policy_only_observes_passes_and_is_recorded() -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .policy(|policy| policy.access(EXAMPLE)["allow"][0]["methods"] = json!(["POST"]))
        .start()
        .await?;
    assert_eq!(
        bed.client().send(get("/some")).await?.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(bed.record().await?["outcome"], "refused");
    bed.edit_policy(|policy| policy.access(EXAMPLE)["mode"] = json!("observe"))?;
    assert_eq!(
        bed.client().send(get("/some")).await?.status,
        StatusCode::OK
    );
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "permitted", "{record}");
    assert_eq!(record["policy"]["mode"], "observe");
    assert_ne!(record["policy"]["would_refuse"], Value::Null, "{record}");
    Ok(())
}

/// A secret that is missing or empty is the operator's to mend, and mending it is enough.
#[tokio::test]
async fn a_missing_or_empty_secret_has_its_own_reason() -> anyhow::Result<()> {
    for broken in [None, Some(" \n")] {
        let mut bed = TestBed::start().await?;
        match broken {
            None => fs::remove_file(bed.env.secret_directory().join("example"))?,
            Some(text) => bed.env.write_secret("example", text)?,
        }
        let answer = bed.client().send(get("/some")).await?;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        let record = bed.record().await?;
        assert_eq!(record["reason"], "credential_missing", "{record}");
        assert_eq!(record["blame"], "operator");
        assert_eq!(bed.api.received().count(), 0);
        bed.env.write_secret("example", SECRET)?;
        until("the mending", async || {
            let answer = bed.client().send(get("/some")).await;
            answer.is_ok_and(|answer| answer.status == StatusCode::OK)
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_cannot_start_says_why() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let taken = bed.gateway.address();
    let start = Gateway::start_with(&bed.env, |gateway| {
        gateway.listeners[0].address = taken;
    });
    let Err(error) = start.await else {
        anyhow::bail!("it started on a port that is taken");
    };
    assert!(
        format!("{error:#}").contains(&taken.to_string()),
        "{error:#}"
    );

    for file in fs::read_dir(bed.env.ca_directory())? {
        fs::write(file?.path(), "no key and no certificate")?;
    }
    let start = Gateway::start(&bed.env).await;
    let Err(error) = start else {
        anyhow::bail!("it started with a CA that cannot be read");
    };
    let place = bed.env.ca_directory().display().to_string();
    assert!(format!("{error:#}").contains(&place), "{error:#}");
    Ok(())
}
