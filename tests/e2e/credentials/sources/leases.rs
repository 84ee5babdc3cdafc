//! Secrets that a real `OpenBao` makes for us, as users of a real Redis: they live as long as they
//! are used, and die there when they are not.

use std::{sync::Arc, time::Duration};

use countersign_config::{load, model::Credential};
use countersign_credential::{Credentials, Issued, ProviderContext};
use countersign_tests::{openbao::OpenBao, redis::Redis};
use countersign_upstream::forward::Forwarder;
use jiff::SignedDuration;

use super::{vault::reach, *};
use crate::harness::{PATIENCE, pass, until};

const POLICY: &str = r#"
path "database/creds/reader" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
"#;

struct Stand {
    env: Environment,
    bao: OpenBao,
    redis: Redis,
    credentials: Credentials,
    credential: Arc<Credential>,
}

impl Stand {
    /// `None` where there is no `OpenBao` or no Redis.
    async fn start(further: Value, lives: Value) -> anyhow::Result<Option<Self>> {
        let env = environment().await?;
        let (Some(bao), Some(redis)) =
            (OpenBao::start(&env.authority).await?, Redis::start().await?)
        else {
            return Ok(None);
        };
        bao.write("sys/mounts/database", json!({"type": "database"}))
            .await?;
        bao.write("database/config/cache", redis.connection())
            .await?;
        let mut role = json!({"db_name": "cache", "creation_statements": [r#"["+@read","~*"]"#]});
        if let (Some(role), Some(lives)) = (role.as_object_mut(), lives.as_object()) {
            role.extend(lives.clone());
        }
        bao.write("database/roles/reader", role).await?;
        let made = json!({
            "mount": "database",
            "path": "creds/reader",
            "key": "password",
            "engine": "dynamic",
        });
        lies_in(&env, &json!({"vault": made}))?;
        edit_credential(&env, |credential| {
            for (key, value) in further.as_object().into_iter().flatten() {
                credential[key.as_str()] = value.clone();
            }
        })?;
        reach(&env, &bao, POLICY).await?;
        let problems = |problems| anyhow::anyhow!("{problems}");
        let (gateway, _) = load::gateway(&env.gateway_yaml()).map_err(problems)?;
        let loaded = load::resources(&[env.policy_directory()]).map_err(problems)?;
        let all = loaded.policies.credentials();
        let credential = all.iter().find(|c| c.name.as_str() == "qa/qase-reader");
        let credential = Arc::clone(credential.expect("the environment has it"));
        let forwarder = Forwarder::new(&gateway.upstream, &gateway.limits, Vec::new())?;
        let tools = ProviderContext::new(&gateway, Arc::new(forwarder), env.clock.clone());
        Ok(Some(Self {
            credentials: Credentials::new(tools, env.clock.clone()),
            env,
            bao,
            redis,
            credential,
        }))
    }

    async fn obtain(&self) -> anyhow::Result<Arc<Issued>> {
        Ok(self.credentials.obtain(&self.credential).await?)
    }

    async fn lives(&self, issued: &Issued) -> anyhow::Result<bool> {
        self.redis.knows(issued.secret().expose()).await
    }

    /// Waits until it has come to an end where it counts.
    async fn dies(&self, password: &str) -> anyhow::Result<()> {
        until("its end", async || {
            let knows = self.redis.knows(password).await;
            knows.is_ok_and(|knows| !knows)
        })
        .await
    }
}

#[tokio::test]
async fn a_lease_is_prolonged_ahead_of_its_end_and_ended_when_idle() -> anyhow::Result<()> {
    let lives = json!({"default_ttl": "1h", "max_ttl": "24h"});
    let further = json!({"idleAfter": "5m", "revokeWhenIdle": true});
    let Some(stand) = Stand::start(further, lives).await? else {
        return Ok(());
    };
    let first = stand.obtain().await?;
    assert!(stand.lives(&first).await?);
    let (clock, began) = (&stand.env.clock, stand.env.clock.now());
    let end = first.expires_at().expect("a lease ends");
    let life = end.duration_since(began);
    assert!(life <= SignedDuration::from_hours(1), "{life:#}");
    assert!(life > SignedDuration::from_mins(59), "{life:#}");

    // After four fifths of its life a use prolongs it, in the background; it stays the same.
    clock.pass(began + SignedDuration::from_mins(49));
    let waiting = soon("a lease that differs", async {
        loop {
            let issued = stand.obtain().await?;
            if issued.expires_at() != first.expires_at() {
                return anyhow::Ok(issued);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let prolonged = waiting.await??;
    assert_eq!(prolonged.generation(), 1);
    assert!(prolonged.secret() == first.secret());

    // One that is rejected is not prolonged but replaced, and ended.
    stand.credentials.invalidate(&stand.credential.name, 1);
    let second = stand.obtain().await?;
    assert_eq!(second.generation(), 2);
    let (old, new) = (
        first.secret().expose().to_owned(),
        second.secret().expose().to_owned(),
    );
    drop((first, prolonged));
    stand.dies(&old).await?;
    assert!(stand.redis.knows(&new).await?);

    // While a request still has it, it is not ended; afterwards it is.
    pass(Duration::from_secs(301)).await;
    assert!(stand.redis.knows(&new).await?);
    drop(second);
    stand.dies(&new).await?;
    Ok(())
}

/// By real time: only the engine knows that there is no more of it.
#[tokio::test]
async fn a_lease_that_cannot_be_prolonged_is_replaced_before_it_ends() -> anyhow::Result<()> {
    let lives = json!({"default_ttl": "3s", "max_ttl": "3s"});
    let Some(stand) = Stand::start(json!({}), lives).await? else {
        return Ok(());
    };
    let first = stand.obtain().await?;
    let waiting = soon("a lease that differs", async {
        loop {
            // The environment's clock goes as the engine's does.
            stand.env.clock.pass(Clock::system().now());
            let issued = stand.obtain().await?;
            if issued.generation() > first.generation() {
                return anyhow::Ok(issued);
            }
            assert!(stand.lives(&issued).await?, "served after its end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let second = waiting.await??;
    assert!(stand.lives(&second).await?);
    Ok(())
}

#[tokio::test]
async fn at_the_gateways_end_what_was_made_for_it_is_ended() -> anyhow::Result<()> {
    let lives = json!({"default_ttl": "1h", "max_ttl": "24h"});
    let Some(stand) = Stand::start(json!({"revokeWhenIdle": true}), lives).await? else {
        return Ok(());
    };
    let password = stand.obtain().await?.secret().expose().to_owned();
    assert!(stand.redis.knows(&password).await?);
    assert!(stand.credentials.end(PATIENCE).await);
    assert!(!stand.redis.knows(&password).await?);
    Ok(())
}

/// Vault ends a lease with the login that it was made in, whatever end it had.
#[tokio::test]
async fn after_another_login_another_secret_is_made() -> anyhow::Result<()> {
    let lives = json!({"default_ttl": "1h", "max_ttl": "24h"});
    let Some(stand) = Stand::start(json!({}), lives).await? else {
        return Ok(());
    };
    let first = stand.obtain().await?;
    let file = stand.env.directory().join("vault-token");
    let old = fs::read_to_string(&file)?;
    fs::write(&file, stand.bao.token(POLICY, "24h").await?)?;
    stand
        .bao
        .write("auth/token/revoke", json!({"token": old}))
        .await?;
    stand.dies(first.secret().expose()).await?;
    stand.credentials.invalidate(&stand.credential.name, 1);
    let second = stand.obtain().await?;
    assert!(stand.lives(&second).await?);
    assert!(second.secret() != first.secret());
    Ok(())
}

#[tokio::test]
async fn a_field_that_the_engine_does_not_make_is_told_and_nothing_left_alive() -> anyhow::Result<()>
{
    let lives = json!({"default_ttl": "1h", "max_ttl": "24h"});
    let Some(stand) = Stand::start(json!({}), lives).await? else {
        return Ok(());
    };
    let mut credential = Credential::clone(&stand.credential);
    if let countersign_config::model::Provider::Static { token } = &mut credential.provider
        && let countersign_config::model::SecretSource::Vault { key, .. } = token
    {
        "token".clone_into(key);
    }
    let error = stand.credentials.obtain(&Arc::new(credential)).await;
    let error = error.expect_err("there is no such field").to_string();
    assert!(
        error.contains("its fields are `password`, `username`"),
        "{error}"
    );
    let leases = stand
        .bao
        .read("sys/leases/lookup/database/creds/reader?list=true")
        .await;
    assert!(leases.is_err(), "a lease is left: {leases:?}");
    Ok(())
}
