//! Proving which pod calls, by its projected token.

use std::{hint::black_box, sync::Arc};

use countersign_config::load;
use countersign_core::{clock::Clock, secret::Secret};
use countersign_identity::{Caller, Identifier, Proof};
use countersign_tests::fake::{Authority, Issuer, TokenRequest};
use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const GATEWAY: &str = "\
apiVersion: countersign.dev/v1alpha1
kind: Gateway
metadata: { name: bench }
spec:
  listeners:
    - { name: proxy, address: \"127.0.0.1:3128\", mode: explicit }
  identity:
    issuers:
      - name: prod-eu
        issuer: \"{issuer}\"
        audience: countersign
        jwks: { file: \"{jwks}\" }
  resources:
    - directory: \"{root}\"
  interception:
    ca: { directory: \"{root}/ca\" }
  state: { directory: \"{root}/state\" }
";

/// Pods with tokens of one issuer, whose keys are read and whose first token was checked.
pub(crate) struct Callers {
    identifier: Identifier,
    known: Secret,
    caller: Arc<Caller>,
    issuer: Issuer,
    runtime: Runtime,
    _directory: TempDir,
}

impl Callers {
    pub(crate) fn new() -> Self {
        // The process has one; another piece may have installed it.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let runtime = Runtime::new().expect("a runtime");
        let authority = Authority::new("Bench Issuer Root");
        let issuer = runtime.block_on(Issuer::start(&authority, Clock::system()));
        let issuer = issuer.expect("an issuer");
        let directory = tempfile::tempdir().expect("a directory");
        let [jwks, gateway] = ["jwks.json", "gateway.yaml"].map(|name| directory.path().join(name));
        issuer.write_jwks(&jwks).expect("a file");
        let yaml = GATEWAY
            .replace("{issuer}", &issuer.url())
            .replace("{jwks}", &jwks.display().to_string())
            .replace("{root}", &directory.path().display().to_string());
        std::fs::write(&gateway, yaml).expect("a file");
        let (gateway, _) = load::gateway(&gateway).expect("it loads");
        let identifier = Identifier::new(&gateway.issuers, Clock::system());
        let identifier = identifier.expect("it needs no network");
        let known = token(&issuer);
        let caller = identifier.by_token(&known, Proof::ServiceAccountToken);
        let caller = runtime.block_on(caller).expect("it is good");
        Self {
            identifier,
            known,
            caller,
            issuer,
            runtime,
            _directory: directory,
        }
    }

    /// A token that was checked before, as on the first request of a connection.
    pub(crate) fn known(&self) {
        let proved = self
            .identifier
            .by_token(black_box(&self.known), Proof::ServiceAccountToken);
        let proved = proved.now_or_never().expect("nothing is to wait for");
        black_box(proved.expect("it is good"));
    }

    /// Whether the proof still stands, as for every later request.
    pub(crate) fn confirm(&self) {
        let confirmed = self.identifier.confirm(black_box(&self.caller));
        let confirmed = confirmed.now_or_never().expect("nothing is to wait for");
        confirmed.expect("it is good");
    }

    /// A token that nobody has seen.
    pub(crate) fn mint(&self) -> Secret {
        token(&self.issuer)
    }

    /// Checks one: its signature, by a thread made for such work, and its claims.
    pub(crate) fn first_sight(&self, token: &Secret) {
        let proved = self.identifier.by_token(token, Proof::ServiceAccountToken);
        black_box(self.runtime.block_on(proved).expect("it is good"));
    }
}

fn token(issuer: &Issuer) -> Secret {
    Secret::new(issuer.mint(&TokenRequest::new("qa", "nightly-dashboard")))
}
