//! The client for Vault against a real `OpenBao`: versions, check-and-set, sessions that end, and
//! what it says when something is wrong.

mod kv;
mod session;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use countersign_config::model::{VaultAuth, VaultServer};
use countersign_control_plane::TransportError;
use countersign_core::{clock::Clock, secret::Secret};
use countersign_credential::vault::{Vault, VaultError};
use countersign_tests::{
    fake::{Authority, Issuer, TokenRequest},
    openbao::OpenBao,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server, and files for the gateway's side.
struct Stand {
    bao: OpenBao,
    clock: Clock,
    authority: Authority,
    directory: TempDir,
}

impl Stand {
    /// `None` where there is no `OpenBao`.
    async fn start() -> Option<Self> {
        let authority = Authority::default();
        let bao = OpenBao::start(&authority).await.expect("OpenBao starts")?;
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("roots.pem"), bao.ca_pem()).expect("written");
        Some(Self {
            bao,
            clock: Clock::manual(Clock::system().now()),
            authority,
            directory,
        })
    }

    /// One that holds a token for Slack.
    async fn with_slack_token() -> Option<Self> {
        let stand = Self::start().await?;
        let token = json!({"token": "one"});
        let written = stand.bao.write_secret("slack", token).await;
        written.expect("written");
        Some(stand)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).expect("written");
    }

    fn server(&self, auth: VaultAuth) -> VaultServer {
        VaultServer {
            address: self.bao.url(),
            ca_file: Some(self.file("roots.pem")),
            namespace: None,
            auth,
        }
    }

    /// A client that proves itself by a token in a file.
    fn by_token(&self, token: &str) -> Arc<Vault> {
        self.write("token", token);
        let auth = VaultAuth::TokenFile(self.file("token"));
        Vault::new(&self.server(auth), self.clock.clone())
    }

    /// A client with a token that has this policy.
    async fn with_policy(&self, policy: &str) -> Arc<Vault> {
        let token = self.bao.token(policy, "1h").await.expect("a token");
        self.by_token(&token)
    }

    /// A client that proves itself by a pod's token, and what Vault trusts it by.
    async fn by_login(&self, policy: &str, role: Value) -> (Arc<Vault>, Issuer) {
        let issuer = Issuer::start(&self.authority, self.clock.clone()).await;
        let issuer = issuer.expect("the issuer starts");
        self.bao
            .write_policy("gateway", policy)
            .await
            .expect("a policy");
        let trusted = self.bao.trust_issuer(&issuer, &["gateway"], role).await;
        trusted.expect("the method is set up");
        self.write(
            "token",
            &issuer.mint(&TokenRequest::new("countersign", "gateway")),
        );
        let auth = VaultAuth::Kubernetes {
            role: "countersign".into(),
            mount: "kubernetes".into(),
            token_file: self.file("token"),
        };
        (Vault::new(&self.server(auth), self.clock.clone()), issuer)
    }
}

fn fields(token: &str) -> BTreeMap<String, Secret> {
    BTreeMap::from([("token".to_owned(), Secret::new(token.to_owned()))])
}

/// The text under `token`.
async fn token_at(vault: &Arc<Vault>, path: &str) -> Result<String, VaultError> {
    let read = vault.read("secret", path).await?;
    Ok(read.text("token").expect("a token").expose().to_owned())
}
