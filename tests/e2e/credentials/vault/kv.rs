//! Key and value, version 2.

use super::*;
use crate::harness::soon;

const ALL: &str = r#"path "*" { capabilities = ["create", "read", "update", "delete"] }"#;

#[tokio::test]
async fn every_write_names_the_version_before() {
    let Some(stand) = Stand::start().await else {
        return;
    };
    let vault = stand.with_policy(ALL).await;
    let conflict = VaultError::Conflict {
        mount: "secret".into(),
        path: "qa/slack".into(),
    };
    let write =
        async |token: &str, cas| vault.write("secret", "qa/slack", &fields(token), cas).await;
    assert_eq!(
        token_at(&vault, "qa/slack").await,
        Err(VaultError::NotFound {
            mount: "secret".into(),
            path: "qa/slack".into()
        })
    );
    assert_eq!(write("one", 1).await, Err(conflict.clone()));
    assert_eq!(write("one", 0).await, Ok(1));
    assert_eq!(write("two", 0).await, Err(conflict.clone()));
    assert_eq!(token_at(&vault, "qa/slack").await.as_deref(), Ok("one"));
    assert_eq!(write("two", 1).await, Ok(2));
    assert_eq!(vault.read("secret", "qa/slack").await.unwrap().version, 2);

    // A version that is gone is still the one to name.
    stand.bao.delete("secret/data/qa/slack").await.unwrap();
    let deleted = vault.read("secret", "qa/slack").await;
    assert!(
        matches!(deleted, Err(VaultError::Deleted { version: 2, .. })),
        "{deleted:?}"
    );
    assert_eq!(write("three", 0).await, Err(conflict));
    assert_eq!(write("three", 2).await, Ok(3));
    let versions = json!({"versions": [3]});
    stand
        .bao
        .write("secret/destroy/qa/slack", versions)
        .await
        .unwrap();
    let destroyed = vault.read("secret", "qa/slack").await;
    assert!(
        matches!(destroyed, Err(VaultError::Destroyed { version: 3, .. })),
        "{destroyed:?}"
    );
    assert_eq!(write("four", 3).await, Ok(4));
    assert_eq!(token_at(&vault, "qa/slack").await.as_deref(), Ok("four"));
}

#[tokio::test]
async fn of_many_writers_of_one_version_one_wins() {
    let Some(stand) = Stand::start().await else {
        return;
    };
    let vault = stand.with_policy(ALL).await;
    let writes = (0..20).map(|number| {
        let vault = Arc::clone(&vault);
        tokio::spawn(async move {
            let fields = fields(&format!("writer-{number}"));
            vault.write("secret", "contended", &fields, 0).await
        })
    });
    let mut won = 0;
    for write in writes.collect::<Vec<_>>() {
        match write.await.unwrap() {
            Ok(version) => {
                assert_eq!(version, 1);
                won += 1;
            }
            Err(error) => assert!(matches!(error, VaultError::Conflict { .. }), "{error}"),
        }
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn what_is_wrong_is_told_apart() {
    let Some(mut stand) = Stand::start().await else {
        return;
    };
    let kv1 = json!({"type": "kv", "options": {"version": "1"}});
    stand.bao.write("sys/mounts/old", kv1).await.unwrap();
    stand
        .bao
        .write_secret("number", json!({"token": 5}))
        .await
        .unwrap();
    let vault = stand.with_policy(ALL).await;

    // Version 1 would take the write, and overwrite whatever is there.
    let not_kv2 = || VaultError::NotKv2 {
        mount: "old".into(),
    };
    assert_eq!(vault.read("old", "x").await.unwrap_err(), not_kv2());
    assert_eq!(
        vault.write("old", "x", &fields("one"), 0).await,
        Err(not_kv2())
    );
    assert!(
        stand.bao.read("old/data/x").await.is_err(),
        "it was written"
    );
    // Nobody may ask what is not there; so this looks like it.
    let no_mount = vault.read("none", "x").await.unwrap_err();
    assert!(matches!(no_mount, VaultError::NoMount { .. }), "{no_mount}");
    let number = vault.read("secret", "number").await.unwrap();
    assert!(number.text("token").is_none(), "a number is no token");

    let poor = stand
        .with_policy(r#"path "secret/data/mine" { capabilities = ["read"] }"#)
        .await;
    let denied = poor.read("secret", "other").await.unwrap_err().to_string();
    assert!(
        denied.contains(r#"path "secret/data/other" { capabilities = ["read"] }"#),
        "{denied}"
    );
    let denied = poor.write("secret", "mine", &fields("one"), 0).await;
    let denied = denied.unwrap_err().to_string();
    assert!(
        denied.contains(r#"path "secret/data/mine" { capabilities = ["create", "update"] }"#),
        "{denied}"
    );

    let server = stand.server(VaultAuth::TokenFile(stand.file("token")));
    let elsewhere = VaultServer {
        namespace: Some("nowhere".into()),
        ..server.clone()
    };
    let elsewhere = Vault::new(&elsewhere, stand.clock.clone());
    let error = elsewhere.read("secret", "x").await.unwrap_err();
    assert_eq!(error, VaultError::NoNamespace);

    stand.write("roots.pem", &Authority::new("Another Root").pem());
    let distrusting = Vault::new(&server, stand.clock.clone());
    let error = distrusting.read("secret", "x").await.unwrap_err();
    assert!(
        matches!(error, VaultError::Transport(TransportError::Tls(_))),
        "{error}"
    );
    // The file is read again, so that the right roots need no restart.
    stand.write("roots.pem", stand.bao.ca_pem());
    let passing =
        |error: &VaultError| matches!(error, VaultError::Transport(TransportError::Tls(_)));
    let error = in_the_end(&distrusting, "mine", passing).await;
    assert!(matches!(error, VaultError::NotFound { .. }), "{error}");

    stand.bao.seal().await.unwrap();
    let error = vault.read("secret", "number").await.unwrap_err();
    assert_eq!(error, VaultError::Sealed);
    stand.bao.kill().await.unwrap();
    let error = in_the_end(&vault, "number", |error| *error == VaultError::Sealed).await;
    assert!(
        matches!(error, VaultError::Transport(TransportError::NotReached(_))),
        "{error}"
    );
}

/// What a read fails with once it no longer fails with what is `passing`: the failure of a login is
/// remembered for a moment.
async fn in_the_end(
    vault: &std::sync::Arc<Vault>,
    path: &str,
    passing: impl Fn(&VaultError) -> bool,
) -> VaultError {
    let read = async {
        loop {
            let read = vault.read("secret", path).await;
            let error = read.expect_err("there is nothing that could be read");
            if !passing(&error) {
                return error;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    soon("another answer", read).await.expect("in time")
}
