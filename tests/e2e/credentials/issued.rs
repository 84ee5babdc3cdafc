//! Credentials that an issuer makes, through a real gateway: an authorization server, GitHub, and an
//! API that takes what they have issued and nothing else.

mod exchange;
mod life;
mod providers;

use std::sync::{Mutex, PoisonError};

use countersign_core::clock::Clock;
use countersign_tests::{
    environment::{DASHBOARD, Environment, Options},
    fake::{
        Api, Body, Exchange, GITHUB_HOST, GitHub, OAUTH_HOST, Oauth, OauthClient, Proves, Signer,
        SignerKind, json,
    },
    resources::{Resource, Resources},
};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::{ApiUnderTest, HOST, TestBed};

/// A test bed whose API takes what is issued. What says how the credential is obtained is the test's.
pub(super) type Issued = TestBed<IssuedApi>;

/// What the API takes in `Authorization`.
#[derive(Clone)]
pub(super) enum Accepts {
    /// The authorization server's access tokens.
    Tokens,
    /// A user's name and password.
    Basic(&'static str),
    /// JWTs that the signer has signed.
    Signed,
}

/// The API, and those who issue what it takes. It says whom it took a request for, and the connection
/// it came by.
pub(super) struct IssuedApi {
    pub(super) oauth: Oauth,
    pub(super) github: GitHub,
    pub(super) signer: Signer,
    scheme: &'static str,
    accepts: Mutex<Accepts>,
}

/// How the credential is obtained: the provider's key in its `spec`, and what stands there.
type Obtained = (&'static str, Value);

/// A test bed whose credential is obtained by a provider, and what else its `spec` has.
async fn start(obtained: Obtained, further: Value) -> anyhow::Result<Issued> {
    start_with(
        Clock::default(),
        "Bearer",
        SignerKind::Rs256,
        |_| obtained,
        further,
    )
    .await
}

async fn start_with(
    clock: Clock,
    scheme: &'static str,
    kind: SignerKind,
    obtained: impl FnOnce(&IssuedApi) -> Obtained,
    further: Value,
) -> anyhow::Result<Issued> {
    let options = Options {
        clock: clock.clone(),
        ..Options::default()
    };
    let env = Environment::with(options).await?;
    let signer = Signer::new(kind);
    let api = IssuedApi {
        oauth: Oauth::start(&env.authority, &env.issuer, clock.clone()).await?,
        github: GitHub::start(&env.authority, &signer, clock).await?,
        signer,
        scheme,
        accepts: Mutex::new(Accepts::Tokens),
    };
    env.write_secret("signing-key", api.signer.pem())?;
    let (provider, spec) = obtained(&api);
    let (oauth, github) = (api.oauth.address(), api.github.address());
    TestBed::with_api(api)
        .within(env)
        .policy(|policy| {
            let example = policy.credential("example");
            example[provider] = spec;
            for (key, value) in further.as_object().into_iter().flatten() {
                example[key.as_str()] = value.clone();
            }
        })
        .resolve(OAUTH_HOST, 443, oauth)
        .resolve(GITHUB_HOST, 443, github)
        .start()
        .await
}

impl Issued {
    /// Registers the gateway at the authorization server.
    fn register(&self, proves: Proves) {
        self.api.oauth.register(OauthClient {
            id: "gate:way".to_owned(),
            proves,
            scopes: vec!["read".to_owned(), "write".to_owned()],
            audiences: vec!["https://api.example.test".to_owned()],
        });
    }

    /// Nothing that was recorded, and nothing that the client was told, holds a secret.
    #[track_caller]
    fn check_silence(&self, texts: &[&str]) {
        let mut secrets = self.api.oauth.secrets();
        secrets.push(self.token.clone());
        for text in texts {
            let shown = secrets.iter().find(|secret| text.contains(secret.as_str()));
            assert!(shown.is_none(), "a secret was told: {text}");
        }
    }
}

impl ApiUnderTest for IssuedApi {
    const HOSTS: &'static [&'static str] = &[HOST];

    fn resources(&self) -> Resources {
        let mut target = Resource::target("example", &[HOST]).bearer();
        target["routes"][0]["attach"]["value"] = json!(format!("{} {{token}}", self.scheme));
        Resources::from([
            target,
            Resource::credential("example", "example"),
            Resource::access("dashboard-uses-example", DASHBOARD, "example")
                .credential_named("example")
                .allow(json!({"paths": ["/**"]})),
        ])
    }

    fn secret(&self) -> String {
        "nothing uses this".to_owned()
    }
}

impl IssuedApi {
    fn accept(&self, accepts: Accepts) {
        *self.accepts.lock().unwrap_or_else(PoisonError::into_inner) = accepts;
    }

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
                (shown == format!("Basic {pair}")).then(|| json!({"subject": "basic"}))
            }
            Accepts::Signed => {
                let (header, claims) = self.signer.verify(shown.strip_prefix("Bearer ")?)?;
                Some(json!({"subject": claims["sub"], "claims": claims, "kid": header["kid"]}))
            }
        }
    }
}

impl Api for IssuedApi {
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
