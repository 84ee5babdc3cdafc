//! Rates are held to and told in whole seconds; what is only observed passes and is recorded.

use std::fs;

use countersign_tests::world::{Options, World};
use http::StatusCode;
use serde_json::Value;

use crate::harness::site::{HOST, Site, get};

/// A site whose policy for the API was changed.
async fn with_policy(from: &str, to: &str) -> anyhow::Result<Site> {
    let change = |world: &World, _: &mut countersign_config::model::Gateway| {
        let path = world.policy_directory().join("example.yaml");
        let written = fs::read_to_string(path)?;
        anyhow::ensure!(written.contains(from), "nothing to change");
        world.write_policy("example.yaml", &written.replace(from, to))?;
        Ok(())
    };
    Site::with(Options::default(), change).await
}

#[tokio::test]
async fn a_rate_is_held_to_and_says_when_to_come_back() -> anyhow::Result<()> {
    let rate = "credential: example\n  conditions: { rate: 2/h }\n  allow:";
    let mut site = with_policy("credential: example\n  allow:", rate).await?;
    let mut session = site.client().open(HOST).await?;
    for _ in 0..2 {
        assert_eq!(session.send(get("/some")).await?.status, StatusCode::OK);
        assert_eq!(site.record().await?["outcome"], "permitted");
    }
    let answer = session.send(get("/some")).await?;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = answer.header("retry-after").unwrap_or_default().parse()?;
    assert!((1..=3600).contains(&wait), "{wait}");
    assert_eq!(site.record().await?["reason"], "rate_limited");
    assert_eq!(site.api.memory().count(), 2);
    Ok(())
}

#[tokio::test]
async fn what_a_policy_only_observes_passes_and_is_recorded() -> anyhow::Result<()> {
    let observed = "methods: [POST]";
    let mut site = with_policy("methods: [GET, HEAD, POST, PUT, OPTIONS]", observed).await?;
    let path = site.world.policy_directory().join("example.yaml");
    assert_eq!(
        site.client().send(get("/some")).await?.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(site.record().await?["outcome"], "refused");
    let enforced = fs::read_to_string(path)?;
    let observing = enforced.replace(
        "  target: example\n  credential: example\n  allow",
        "  target: example\n  mode: observe\n  credential: example\n  allow",
    );
    assert_ne!(observing, enforced);
    site.world.write_policy("example.yaml", &observing)?;
    site.gateway.reloader().reload()?;
    assert_eq!(
        site.client().send(get("/some")).await?.status,
        StatusCode::OK
    );
    let record = site.record().await?;
    assert_eq!(record["outcome"], "permitted", "{record}");
    assert_eq!(record["policy"]["mode"], "observe");
    assert_ne!(record["policy"]["would_refuse"], Value::Null, "{record}");
    Ok(())
}

/// A secret that is missing or empty is the operator's to mend, and mending it is enough.
#[tokio::test]
async fn a_missing_or_empty_secret_has_its_own_reason() -> anyhow::Result<()> {
    for broken in [None, Some(" \n")] {
        let mut site = with_policy("namespace: qa", "namespace: qa").await?;
        match broken {
            None => fs::remove_file(site.world.secret_directory().join("example"))?,
            Some(text) => site.world.write_secret("example", text)?,
        }
        let answer = site.client().send(get("/some")).await?;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        let record = site.record().await?;
        assert_eq!(record["reason"], "credential_missing", "{record}");
        assert_eq!(record["blame"], "operator");
        assert_eq!(site.api.memory().count(), 0);
        site.world
            .write_secret("example", crate::harness::site::SECRET)?;
        let mended = Box::pin(async {
            while site.client().send(get("/some")).await?.status != StatusCode::OK {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            anyhow::Ok(())
        });
        crate::harness::site::soon("the mending", mended).await??;
    }
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_cannot_start_says_why() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let taken = site.gateway.address();
    let start = countersign_tests::gateway::Gateway::start_with(&site.world, |gateway| {
        gateway.listeners[0].address = taken;
    });
    let Err(error) = start.await else {
        anyhow::bail!("it started on a port that is taken");
    };
    assert!(
        format!("{error:#}").contains(&taken.to_string()),
        "{error:#}"
    );

    for file in fs::read_dir(site.world.ca_directory())? {
        fs::write(file?.path(), "no key and no certificate")?;
    }
    let start = countersign_tests::gateway::Gateway::start(&site.world).await;
    let Err(error) = start else {
        anyhow::bail!("it started with a CA that cannot be read");
    };
    let place = site.world.ca_directory().display().to_string();
    assert!(format!("{error:#}").contains(&place), "{error:#}");
    Ok(())
}
