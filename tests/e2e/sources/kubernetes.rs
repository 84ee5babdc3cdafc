//! Kubernetes Secrets, from the stand-in of the API server, and from a real one where there is one.

use std::collections::BTreeMap;

use countersign::{kube::Kube, secret::Secret};
use countersign_config::model::Cluster;
use countersign_tests::{fake::Grant, kube_apiserver::KubeApiServer};

use super::*;

const SOURCE: &str = "{ kubernetesSecret: { name: qase, key: token } }";

fn cluster(world: &World, url: &str) -> String {
    let root = world.directory().display();
    format!(
        "  kubernetes:\n    url: \"{url}\"\n    caFile: {root}/upstream-roots.pem\n    \
         tokenFile: {root}/secrets/gateway-token"
    )
}

/// The token lies in a Secret that the gateway may watch.
async fn stage() -> anyhow::Result<Stage> {
    let world = world().await?;
    let token = world.qase.token();
    let data = [("token", token.as_bytes())];
    world.api_server.set_secret("qa", "qase", &data);
    let verbs = ["list", "watch"];
    world.api_server.grant(Grant::one("qa", "qase", &verbs));
    lies_in(&world, SOURCE, "")?;
    knows(&world, &cluster(&world, &world.api_server.url()))?;
    Stage::start(world).await
}

impl Stage {
    fn write_secret(&self, token: &str) {
        let data = [("token", token.as_bytes())];
        self.world.api_server.set_secret("qa", "qase", &data);
    }

    /// How often the Secret was asked for.
    fn asked(&self) -> usize {
        let path = "/api/v1/namespaces/qa/secrets";
        self.world.api_server.received().at(path).len()
    }

    async fn until_watched(&self, times: usize) -> anyhow::Result<()> {
        let waiting = tokio::time::timeout(PATIENCE, async {
            while self.world.api_server.watches() != times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waiting.await.map_err(Into::into)
    }
}

#[tokio::test]
async fn a_secret_is_watched_and_every_change_noticed() -> anyhow::Result<()> {
    let mut stage = stage().await?;
    assert_eq!(stage.works().await?["credential"]["generation"], 1);
    stage.until_watched(1).await?;
    for _ in 0..100 {
        assert!(is_good(&stage.works().await?));
    }
    assert_eq!(stage.asked(), 2, "a list and a watch, however many ask");

    // Replaced.
    let token = stage.world.qase.replace_token();
    stage.write_secret(&token);
    let record = stage.until(|record| record["credential"]["generation"] == 2);
    assert_eq!(record.await?["outcome"], "permitted");

    // Withdrawn.
    assert!(stage.world.api_server.delete_secret("qa", "qase"));
    let record = stage.until(has_reason("credential_missing")).await?;
    let detail = detail(&record);
    assert!(
        detail.contains("there is no Secret qase in namespace qa"),
        "{detail}"
    );
    stage.write_secret(&token);
    stage.until(is_good).await?;

    let data = [("other", token.as_bytes())];
    stage.world.api_server.set_secret("qa", "qase", &data);
    let record = stage.until(has_reason("credential_missing")).await?;
    let detail = super::detail(&record);
    assert!(
        detail.contains("has no key `token`; it has `other`"),
        "{detail}"
    );
    assert!(!detail.contains(&token));
    assert_eq!(stage.asked(), 2, "all that was seen by the one watch");
    Ok(())
}

#[tokio::test]
async fn a_watch_that_ends_or_is_too_old_goes_on() -> anyhow::Result<()> {
    let mut stage = stage().await?;
    stage.works().await?;
    stage.until_watched(1).await?;
    // As the API server does every few minutes.
    stage.world.api_server.bookmark();
    stage.world.api_server.end_watches();
    let token = stage.world.qase.replace_token();
    stage.write_secret(&token);
    let record = stage.until(|record| record["credential"]["generation"] == 2);
    assert!(is_good(&record.await?));

    // What happened in between is forgotten there: it is listed anew.
    stage.until_watched(1).await?;
    let token = stage.world.qase.replace_token();
    stage.write_secret(&token);
    stage.world.api_server.forget_changes();
    stage.world.api_server.end_watches();
    let record = stage.until(|record| record["credential"]["generation"] == 3);
    assert!(is_good(&record.await?));
    Ok(())
}

#[tokio::test]
async fn an_outage_of_the_api_server_is_bridged_and_recorded() -> anyhow::Result<()> {
    let mut stage = stage().await?;
    stage.works().await?;
    stage.until_watched(1).await?;
    let outage = Some(StatusCode::SERVICE_UNAVAILABLE);
    stage.world.api_server.set_outage(outage);
    stage.world.api_server.end_watches();
    stage.until(is_stale).await?;

    // Not for ever.
    pass(Duration::from_mins(61)).await;
    let reason = has_reason("credential_source_unavailable");
    let record = stage.until(reason).await?;
    assert_eq!(record["blame"], "platform");
    assert!(detail(&record).contains("it failed (503)"), "{record}");

    stage.world.api_server.set_outage(None);
    pass(Duration::from_secs(31)).await;
    stage.until(is_good).await?;
    Ok(())
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() -> anyhow::Result<()> {
    let mut stage = stage().await?;
    stage.world.api_server.revoke_grants();
    let (status, record) = stage.ask().await?;
    // Said as Qase would.
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(record["reason"], "credential_refused", "{record}");
    assert_eq!(record["blame"], "operator");
    let detail = detail(&record);
    assert!(
        detail.contains("resourceNames: [qase], verbs: [list, watch]"),
        "{detail}"
    );
    let verbs = ["list", "watch"];
    let grant = Grant::one("qa", "qase", &verbs);
    stage.world.api_server.grant(grant);
    pass(Duration::from_secs(2)).await;
    stage.until(is_good).await?;
    Ok(())
}

#[tokio::test]
async fn what_nobody_asks_for_is_watched_no_longer() -> anyhow::Result<()> {
    let mut stage = stage().await?;
    stage.works().await?;
    stage.until_watched(1).await?;
    pass(Duration::from_secs(301)).await;
    stage.until_watched(0).await?;
    // Whoever asks again has it listed again.
    let token = stage.world.qase.replace_token();
    stage.write_secret(&token);
    assert!(is_good(&stage.works().await?));
    stage.until_watched(1).await?;
    stage.gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_secret_of_a_real_api_server_is_watched() -> anyhow::Result<()> {
    let world = world().await?;
    let Some(server) = KubeApiServer::start(&world.authority).await? else {
        return Ok(());
    };
    server.create_namespace("qa").await?;
    world.write_secret("gateway-token", server.token())?;
    let kube = Kube::new(&Cluster {
        url: server.url(),
        ca_file: Some(world.directory().join("upstream-roots.pem")),
        token_file: world.secret_directory().join("gateway-token"),
    });
    let data = |token| BTreeMap::from([("token".to_owned(), Secret::new(token))]);
    let written = data(world.qase.token());
    let written = kube.create_secret("qa", "qase", &[], &written).await?;
    lies_in(&world, SOURCE, "")?;
    knows(&world, &cluster(&world, &server.url()))?;
    let mut stage = Stage::start(world).await?;
    assert!(is_good(&stage.works().await?));
    let token = data(stage.world.qase.replace_token());
    kube.replace_secret("qa", "qase", &written, &token).await?;
    let record = stage.until(|record| record["credential"]["generation"] == 2);
    assert!(is_good(&record.await?));
    Ok(())
}
