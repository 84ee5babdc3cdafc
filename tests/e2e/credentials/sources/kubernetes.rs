//! Kubernetes Secrets, from the stand-in of the API server, and from a real one where there is one.

use std::collections::BTreeMap;

use anyhow::Context as _;
use countersign_config::model::Cluster;
use countersign_control_plane::kube::Kube;
use countersign_core::secret::Secret;
use countersign_tests::{
    fake::{Grant, Misbehaviour},
    kube_apiserver::KubeApiServer,
};

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
    may_watch(&world);
    lies_in(&world, SOURCE, "")?;
    knows(&world, &cluster(&world, &world.api_server.url()))?;
    Stage::start(world).await
}

fn may_watch(world: &World) {
    let verbs = ["list", "watch"];
    world.api_server.grant(Grant::one("qa", "qase", &verbs));
}

impl Stage {
    fn may_watch(&self) {
        may_watch(&self.world);
    }

    async fn until_asked_more_than(&self, times: usize) -> anyhow::Result<()> {
        // Less than any pause that would be too long.
        let waiting = tokio::time::timeout(Duration::from_secs(4), async {
            while self.asked() <= times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waiting.await.context("the API server is not asked")
    }

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

/// As an API server does in its first seconds, before it has read its roles.
#[tokio::test]
async fn a_refusal_of_a_starting_api_server_is_bridged_for_half_a_minute() -> anyhow::Result<()> {
    let mut stage = stage().await?;
    stage.works().await?;
    stage.until_watched(1).await?;
    let starts = |stage: &Stage| {
        stage.world.api_server.revoke_grants();
        stage.world.api_server.end_watches();
    };
    starts(&stage);
    let stale = stage.until(is_stale).await?;
    assert_eq!(stale["credential"]["generation"], 1, "{stale}");
    pass(Duration::from_secs(10)).await;
    assert!(is_stale(&stage.ask().await?.1));
    stage.may_watch();
    pass(Duration::from_secs(3)).await;
    stage.until(is_good).await?;

    // A role that was taken away stays away.
    stage.until_watched(1).await?;
    starts(&stage);
    stage.until(is_stale).await?;
    pass(Duration::from_secs(31)).await;
    let record = stage.until(has_reason("credential_refused")).await?;
    assert_eq!(record["blame"], "operator", "{record}");
    stage.may_watch();
    pass(Duration::from_secs(3)).await;
    stage.until(is_good).await?;
    Ok(())
}

#[tokio::test]
async fn a_token_of_ours_that_is_not_accepted_is_bridged_no_longer() -> anyhow::Result<()> {
    let mut stage = stage().await?;
    stage.works().await?;
    stage.until_watched(1).await?;
    stage.world.write_secret("gateway-token", "outdated")?;
    stage.world.api_server.end_watches();
    stage.until(is_stale).await?;
    pass(Duration::from_secs(31)).await;
    let refused = |record: &Value| record["outcome"] != "permitted";
    let record = stage.until(refused).await?;
    let detail = detail(&record);
    assert!(
        detail.contains("does not accept the gateway's own token"),
        "{detail}"
    );
    Ok(())
}

/// The refusal counts from when it began, not from when a request first met it.
#[tokio::test]
async fn a_role_that_was_taken_away_long_ago_bridges_nothing() -> anyhow::Result<()> {
    let mut stage = stage().await?;
    stage.works().await?;
    stage.until_watched(1).await?;
    let before = stage.asked();
    stage.world.api_server.revoke_grants();
    stage.world.api_server.end_watches();
    stage.until_asked_more_than(before).await?;
    pass(Duration::from_secs(40)).await;
    let (_, record) = stage.ask().await?;
    assert_eq!(record["reason"], "credential_refused", "{record}");
    Ok(())
}

#[tokio::test]
async fn after_an_outage_the_watch_goes_on_within_five_seconds() -> anyhow::Result<()> {
    let mut stage = stage().await?;
    stage.works().await?;
    stage.until_watched(1).await?;
    stage
        .world
        .api_server
        .set_outage(Some(StatusCode::SERVICE_UNAVAILABLE));
    stage.world.api_server.end_watches();
    stage.until(is_stale).await?;
    // However long it has lasted, in each five seconds there is an attempt.
    for _ in 0..20 {
        let before = stage.asked();
        pass(Duration::from_secs(5)).await;
        stage.until_asked_more_than(before).await?;
    }
    stage.world.api_server.set_outage(None);
    let token = stage.world.qase.replace_token();
    stage.write_secret(&token);
    pass(Duration::from_secs(5)).await;
    stage.until_watched(1).await?;
    stage
        .until(|record| record["credential"]["generation"] == 2)
        .await?;
    Ok(())
}

/// One that hangs is waited for by the first; who comes later has the value from before, or is refused.
#[tokio::test]
async fn an_api_server_that_hangs_holds_up_nobody_who_has_a_value() -> anyhow::Result<()> {
    let mut stage = stage().await?;
    stage.works().await?;
    stage.until_watched(1).await?;
    stage.world.api_server.misbehave(Some(Misbehaviour::Stall));
    stage.world.api_server.end_watches();
    for _ in 0..10 {
        let asked = tokio::time::timeout(Duration::from_secs(4), stage.ask());
        let (status, record) = asked.await.context("nobody waits for an API server")??;
        assert_eq!(status, StatusCode::OK, "{record}");
        pass(Duration::from_secs(6)).await;
    }
    stage.until(is_stale).await?;
    stage.world.api_server.misbehave(None);
    pass(Duration::from_secs(8)).await;
    stage.until(is_good).await?;
    Ok(())
}
