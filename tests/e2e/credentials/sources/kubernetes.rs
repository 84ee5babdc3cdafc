//! Kubernetes Secrets, from the stand-in of the API server, and from a real one where there is one.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use countersign_config::model::Cluster;
use countersign_control_plane::kube::Kube;
use countersign_core::secret::Secret;
use countersign_tests::{
    fake::{Grant, Misbehaviour},
    kube_apiserver::KubeApiServer,
};

use super::*;
use crate::harness::{pass, until};

fn source() -> Value {
    json!({"kubernetesSecret": {"name": "qase", "key": "token"}})
}

fn cluster(env: &Environment, url: &str) -> String {
    let root = env.directory().display();
    format!(
        "  kubernetes:\n    url: \"{url}\"\n    caFile: {root}/upstream-roots.pem\n    \
         tokenFile: {root}/secrets/gateway-token"
    )
}

/// The token lies in a Secret that the gateway may watch.
async fn start() -> anyhow::Result<TestBed> {
    let env = environment().await?;
    let token = env.qase.token();
    let data = [("token", token.as_bytes())];
    env.api_server.set_secret("qa", "qase", &data);
    may_watch(&env);
    lies_in(&env, &source())?;
    env.extend_gateway(&cluster(&env, &env.api_server.url()))?;
    TestBed::over(env).await
}

fn may_watch(env: &Environment) {
    let verbs = ["list", "watch"];
    env.api_server.grant(Grant::one("qa", "qase", &verbs));
}

impl TestBed {
    async fn until_asked_more_than(&self, times: usize) -> anyhow::Result<()> {
        // Less than any pause that would be too long.
        let waiting = tokio::time::timeout(Duration::from_secs(4), async {
            while self.asked() <= times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waiting.await.context("the API server is not asked")
    }

    fn write_kubernetes_secret(&self, token: &str) {
        let data = [("token", token.as_bytes())];
        self.env.api_server.set_secret("qa", "qase", &data);
    }

    /// How often the Secret was asked for.
    fn asked(&self) -> usize {
        let path = "/api/v1/namespaces/qa/secrets";
        self.env.api_server.received().at(path).len()
    }

    async fn until_watched(&self, times: usize) -> anyhow::Result<()> {
        until("the watches", async || {
            self.env.api_server.watches() == times
        })
        .await
    }
}

#[tokio::test]
async fn a_secret_is_watched_and_every_change_noticed() -> anyhow::Result<()> {
    let mut bed = start().await?;
    assert_eq!(bed.reads_runs().await?["credential"]["generation"], 1);
    bed.until_watched(1).await?;
    for _ in 0..100 {
        assert!(is_good(&bed.reads_runs().await?));
    }
    assert_eq!(bed.asked(), 2, "a list and a watch, however many ask");

    // Replaced.
    let token = bed.env.qase.replace_token();
    bed.write_kubernetes_secret(&token);
    let record = bed.reads_until(|record| record["credential"]["generation"] == 2);
    assert_eq!(record.await?["outcome"], "permitted");

    // Withdrawn.
    assert!(bed.env.api_server.delete_secret("qa", "qase"));
    let record = bed.reads_until(has_reason("credential_missing")).await?;
    let detail = detail(&record);
    assert!(
        detail.contains("there is no Secret qase in namespace qa"),
        "{detail}"
    );
    bed.write_kubernetes_secret(&token);
    bed.reads_until(is_good).await?;

    let data = [("other", token.as_bytes())];
    bed.env.api_server.set_secret("qa", "qase", &data);
    let record = bed.reads_until(has_reason("credential_missing")).await?;
    let detail = super::detail(&record);
    assert!(
        detail.contains("has no key `token`; it has `other`"),
        "{detail}"
    );
    assert!(!detail.contains(&token));
    assert_eq!(bed.asked(), 2, "all that was seen by the one watch");
    Ok(())
}

#[tokio::test]
async fn a_watch_that_ends_or_is_too_old_goes_on() -> anyhow::Result<()> {
    let mut bed = start().await?;
    bed.reads_runs().await?;
    bed.until_watched(1).await?;
    // As the API server does every few minutes.
    bed.env.api_server.bookmark();
    bed.env.api_server.end_watches();
    let token = bed.env.qase.replace_token();
    bed.write_kubernetes_secret(&token);
    let record = bed.reads_until(|record| record["credential"]["generation"] == 2);
    assert!(is_good(&record.await?));

    // What happened in between is forgotten there: it is listed anew.
    bed.until_watched(1).await?;
    let token = bed.env.qase.replace_token();
    bed.write_kubernetes_secret(&token);
    bed.env.api_server.forget_changes();
    bed.env.api_server.end_watches();
    let record = bed.reads_until(|record| record["credential"]["generation"] == 3);
    assert!(is_good(&record.await?));
    Ok(())
}

#[tokio::test]
async fn an_outage_of_the_api_server_is_bridged_and_recorded() -> anyhow::Result<()> {
    let mut bed = start().await?;
    bed.reads_runs().await?;
    bed.until_watched(1).await?;
    let outage = Some(StatusCode::SERVICE_UNAVAILABLE);
    bed.env.api_server.set_outage(outage);
    bed.env.api_server.end_watches();
    bed.reads_until(is_stale).await?;

    // Not for ever.
    pass(Duration::from_mins(61)).await;
    let reason = has_reason("credential_source_unavailable");
    let record = bed.reads_until(reason).await?;
    assert_eq!(record["blame"], "platform");
    assert!(detail(&record).contains("it failed (503)"), "{record}");

    bed.env.api_server.set_outage(None);
    pass(Duration::from_secs(31)).await;
    bed.reads_until(is_good).await?;
    Ok(())
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() -> anyhow::Result<()> {
    let mut bed = start().await?;
    bed.env.api_server.revoke_grants();
    let (status, record) = bed.read_runs().await?;
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
    bed.env.api_server.grant(grant);
    pass(Duration::from_secs(2)).await;
    bed.reads_until(is_good).await?;
    Ok(())
}

#[tokio::test]
async fn what_nobody_asks_for_is_watched_no_longer() -> anyhow::Result<()> {
    let mut bed = start().await?;
    bed.reads_runs().await?;
    bed.until_watched(1).await?;
    pass(Duration::from_secs(301)).await;
    bed.until_watched(0).await?;
    // Whoever asks again has it listed again.
    let token = bed.env.qase.replace_token();
    bed.write_kubernetes_secret(&token);
    assert!(is_good(&bed.reads_runs().await?));
    bed.until_watched(1).await?;
    bed.gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_secret_of_a_real_api_server_is_watched() -> anyhow::Result<()> {
    let env = environment().await?;
    let Some(server) = KubeApiServer::start(&env.authority).await? else {
        return Ok(());
    };
    server.create_namespace("qa").await?;
    env.write_secret("gateway-token", server.token())?;
    let kube = Kube::new(&Cluster {
        url: server.url(),
        ca_file: Some(env.directory().join("upstream-roots.pem")),
        token_file: env.secret_directory().join("gateway-token"),
    });
    let data = |token| BTreeMap::from([("token".to_owned(), Secret::new(token))]);
    let written = data(env.qase.token());
    let written = kube.create_secret("qa", "qase", &[], &written).await?;
    lies_in(&env, &source())?;
    env.extend_gateway(&cluster(&env, &server.url()))?;
    let mut bed = TestBed::over(env).await?;
    assert!(is_good(&bed.reads_runs().await?));
    let token = data(bed.env.qase.replace_token());
    kube.replace_secret("qa", "qase", &written, &token).await?;
    let record = bed.reads_until(|record| record["credential"]["generation"] == 2);
    assert!(is_good(&record.await?));
    Ok(())
}

/// As an API server does in its first seconds, before it has read its roles.
#[tokio::test]
async fn a_refusal_of_a_starting_api_server_is_bridged_for_half_a_minute() -> anyhow::Result<()> {
    let mut bed = start().await?;
    bed.reads_runs().await?;
    bed.until_watched(1).await?;
    let starts = |bed: &TestBed| {
        bed.env.api_server.revoke_grants();
        bed.env.api_server.end_watches();
    };
    starts(&bed);
    let stale = bed.reads_until(is_stale).await?;
    assert_eq!(stale["credential"]["generation"], 1, "{stale}");
    pass(Duration::from_secs(10)).await;
    assert!(is_stale(&bed.read_runs().await?.1));
    may_watch(&bed.env);
    pass(Duration::from_secs(3)).await;
    bed.reads_until(is_good).await?;

    // A role that was taken away stays away.
    bed.until_watched(1).await?;
    starts(&bed);
    bed.reads_until(is_stale).await?;
    pass(Duration::from_secs(31)).await;
    let record = bed.reads_until(has_reason("credential_refused")).await?;
    assert_eq!(record["blame"], "operator", "{record}");
    may_watch(&bed.env);
    pass(Duration::from_secs(3)).await;
    bed.reads_until(is_good).await?;
    Ok(())
}

#[tokio::test]
async fn a_token_of_ours_that_is_not_accepted_is_bridged_no_longer() -> anyhow::Result<()> {
    let mut bed = start().await?;
    bed.reads_runs().await?;
    bed.until_watched(1).await?;
    bed.env.write_secret("gateway-token", "outdated")?;
    bed.env.api_server.end_watches();
    bed.reads_until(is_stale).await?;
    pass(Duration::from_secs(31)).await;
    let refused = |record: &Value| record["outcome"] != "permitted";
    let record = bed.reads_until(refused).await?;
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
    let mut bed = start().await?;
    bed.reads_runs().await?;
    bed.until_watched(1).await?;
    let before = bed.asked();
    bed.env.api_server.revoke_grants();
    bed.env.api_server.end_watches();
    bed.until_asked_more_than(before).await?;
    // It asks which rights it lacks before it is told.
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    until("the reviews of its rights", async || {
        bed.env.api_server.received().at(reviews).len() == 2
    })
    .await?;
    // It asks again only after it has noted the refusal. No step is as long as it waits for an answer, which takes real
    // time: a longer one would end the question instead.
    for _ in 0..24 {
        let asked = bed.asked();
        pass(Duration::from_millis(1900)).await;
        bed.until_asked_more_than(asked).await?;
    }
    let (_, record) = bed.read_runs().await?;
    assert_eq!(record["reason"], "credential_refused", "{record}");
    let detail = detail(&record);
    assert!(
        // Whichever was refused first.
        detail.contains("to list and watch Secret qase in namespace qa")
            || detail.contains("to watch and list Secret qase in namespace qa"),
        "{detail}"
    );
    Ok(())
}

#[tokio::test]
async fn after_an_outage_the_watch_goes_on_within_five_seconds() -> anyhow::Result<()> {
    let mut bed = start().await?;
    bed.reads_runs().await?;
    bed.until_watched(1).await?;
    bed.env
        .api_server
        .set_outage(Some(StatusCode::SERVICE_UNAVAILABLE));
    bed.env.api_server.end_watches();
    bed.reads_until(is_stale).await?;
    // However long it has lasted, in each five seconds there is an attempt.
    for _ in 0..20 {
        let before = bed.asked();
        pass(Duration::from_secs(5)).await;
        bed.until_asked_more_than(before).await?;
    }
    bed.env.api_server.set_outage(None);
    let token = bed.env.qase.replace_token();
    bed.write_kubernetes_secret(&token);
    pass(Duration::from_secs(5)).await;
    bed.until_watched(1).await?;
    bed.reads_until(|record| record["credential"]["generation"] == 2)
        .await?;
    Ok(())
}

/// One that hangs is waited for by the first; who comes later has the value from before, or is refused.
#[tokio::test]
async fn an_api_server_that_hangs_holds_up_nobody_who_has_a_value() -> anyhow::Result<()> {
    let mut bed = start().await?;
    bed.reads_runs().await?;
    bed.until_watched(1).await?;
    bed.env.api_server.misbehave(Some(Misbehaviour::Stall));
    bed.env.api_server.end_watches();
    for _ in 0..10 {
        let asked = tokio::time::timeout(Duration::from_secs(4), bed.read_runs());
        let (status, record) = asked.await.context("nobody waits for an API server")??;
        assert_eq!(status, StatusCode::OK, "{record}");
        pass(Duration::from_secs(6)).await;
    }
    bed.reads_until(is_stale).await?;
    bed.env.api_server.misbehave(None);
    pass(Duration::from_secs(8)).await;
    bed.reads_until(is_good).await?;
    Ok(())
}
