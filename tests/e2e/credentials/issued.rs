//! Credentials that an issuer makes, through a real gateway: an authorization server, GitHub, and an
//! API that takes what they have issued and nothing else.

mod exchange;
mod life;
mod providers;

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use countersign_tests::{
    client::Client,
    fake::{
        Api, Body, Exchange, GITHUB_HOST, GitHub, OAUTH_HOST, Oauth, OauthClient, Proves, Server,
        Signer, SignerKind, json,
    },
    gateway::Gateway,
    world::{Options, World},
};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::site::HOST;

const POLICY: &str = r#"
apiVersion: countersign.dev/v1alpha1
kind: TargetService
metadata: { name: example }
spec:
  hosts: [api.example.test]
  slots: { default: token, names: [token] }
  routes:
    - paths: ["/**"]
      attach: { slot: token, header: Authorization, value: "{scheme} {token}" }
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: example, namespace: qa }
spec:
  target: example
{obtained}
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: dashboard-uses-example, namespace: qa }
spec:
  owner: qa-platform@example.com
  workloads: [nightly-dashboard]
  target: example
  credential: example
  allow:
    - paths: ["/**"]
"#;

/// What is issued and who takes it.
pub(crate) struct Issued {
    pub(crate) world: World,
    pub(crate) oauth: Arc<Oauth>,
    pub(crate) github: Arc<GitHub>,
    pub(crate) signer: Signer,
    pub(crate) api: Server,
    pub(crate) gateway: Gateway,
    pub(crate) token: String,
    accepts: Arc<Mutex<Accepts>>,
}

/// What the API takes in `Authorization`.
#[derive(Clone)]
pub(crate) enum Accepts {
    /// The authorization server's access tokens.
    Tokens,
    /// A user's name and password.
    Basic(&'static str),
    /// JWTs that this pair has signed.
    Signed(Signer),
}

impl Issued {
    /// Where the credential is obtained like this, indented by two; `{token_url}`, `{revoke_url}`,
    /// `{secrets}`, `{installation}` and `{app}` are filled in.
    pub(crate) async fn start(options: Options, obtained: &str) -> anyhow::Result<Self> {
        Self::with(options, "Bearer", SignerKind::Rs256, obtained).await
    }

    pub(crate) async fn with(
        options: Options,
        scheme: &str,
        kind: SignerKind,
        obtained: &str,
    ) -> anyhow::Result<Self> {
        let world = World::with(options).await?;
        let (clock, signer) = (world.clock.clone(), Signer::new(kind));
        let oauth = Oauth::start(&world.authority, &world.issuer, clock.clone()).await?;
        let github = GitHub::start(&world.authority, &signer, clock).await?;
        let (oauth, github) = (Arc::new(oauth), Arc::new(github));
        let accepts = Arc::new(Mutex::new(Accepts::Tokens));
        let api = Resource {
            oauth: Arc::clone(&oauth),
            accepts: Arc::clone(&accepts),
        };
        let api = Server::start(&world.authority, &[HOST], Arc::new(api)).await?;
        world.write_secret("signing-key", signer.pem())?;
        let policy = POLICY
            .replace("{scheme} {token}", &format!("{scheme} {{token}}"))
            .replace("{obtained}", obtained)
            .replace("{token_url}", &Oauth::token_url())
            .replace("{revoke_url}", &Oauth::revoke_url())
            .replace("{installation}", &github.installation_url())
            .replace("{app}", github.app())
            .replace("{secrets}", &world.secret_directory().display().to_string());
        world.write_policy("example.yaml", &policy)?;
        let gateway = Gateway::start_with(&world, |gateway| {
            for (host, address) in [
                (HOST, api.address()),
                (OAUTH_HOST, oauth.address()),
                (GITHUB_HOST, github.address()),
            ] {
                let host = countersign_config::host::Host::parse(host).expect("a host");
                gateway.upstream.resolve.insert((host, 443), address);
            }
        })
        .await?;
        let token = world.token("qa", "nightly-dashboard");
        Ok(Self {
            world,
            oauth,
            github,
            signer,
            api,
            gateway,
            token,
            accepts,
        })
    }

    /// Registers the gateway at the authorization server.
    pub(crate) fn register(&self, proves: Proves) {
        self.oauth.register(OauthClient {
            id: "gate:way".to_owned(),
            proves,
            scopes: vec!["read".to_owned(), "write".to_owned()],
            audiences: vec!["https://api.example.test".to_owned()],
        });
    }

    pub(crate) fn accept(&self, accepts: Accepts) {
        *self.accepts.lock().unwrap_or_else(PoisonError::into_inner) = accepts;
    }

    pub(crate) fn client(&self) -> Client {
        self.gateway.client(&self.world).bearer(&self.token)
    }

    /// The next decision record.
    pub(crate) async fn record(&mut self) -> anyhow::Result<Value> {
        crate::harness::site::soon("the record", self.gateway.decisions().next()).await
    }

    /// Nothing that was recorded, and nothing that the client was told, holds a secret.
    #[track_caller]
    pub(crate) fn check_silence(&self, texts: &[&str]) {
        let mut secrets = self.oauth.secrets();
        secrets.push(self.token.clone());
        for text in texts {
            let shown = secrets.iter().find(|secret| text.contains(secret.as_str()));
            assert!(shown.is_none(), "a secret was told: {text}");
        }
    }
}

/// The API: says whom it took the request for, and the connection it came by.
struct Resource {
    oauth: Arc<Oauth>,
    accepts: Arc<Mutex<Accepts>>,
}

impl Resource {
    fn judge(&self, shown: &str) -> Option<Value> {
        let accepts = self.accepts.lock().unwrap_or_else(PoisonError::into_inner);
        match &*accepts {
            Accepts::Tokens => {
                let token = self.oauth.introspect(shown.strip_prefix("Bearer ")?)?;
                Some(json!({
                    "subject": token.subject, "scopes": token.scopes, "audience": token.audience,
                }))
            }
            Accepts::Basic(pair) => {
                let mut expected = String::from("Basic ");
                write!(expected, "{pair}").expect("writing to a String cannot fail");
                (shown == expected).then(|| json!({"subject": "basic"}))
            }
            Accepts::Signed(signer) => {
                let (header, claims) = signer.verify(shown.strip_prefix("Bearer ")?)?;
                Some(json!({"subject": claims["sub"], "claims": claims, "kid": header["kid"]}))
            }
        }
    }
}

impl Api for Resource {
    async fn answer(&self, exchange: Exchange) -> Response<Body> {
        let received = exchange.read().await;
        let shown = received.header("authorization").unwrap_or_default();
        match self.judge(&shown) {
            Some(mut said) => {
                said["connection"] = received.connection.number.into();
                json(StatusCode::OK, &said)
            }
            None => json(StatusCode::UNAUTHORIZED, &json!({"error": "invalid_token"})),
        }
    }
}
