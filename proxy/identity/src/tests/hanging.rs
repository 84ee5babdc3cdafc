//! An API server, or an issuer, that accepts connections and never responds: the first request waits for
//! the full timeout, later ones for a second.

use std::sync::atomic::{AtomicUsize, Ordering};

use countersign_control_plane as control_plane;
use countersign_core::outage;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

use super::*;

/// Accepts and never responds; counts the connections.
struct Silent {
    url: String,
    accepted: Arc<AtomicUsize>,
    _server: tokio_util::task::AbortOnDropHandle<()>,
}

impl Silent {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let accepted = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&accepted);
        let server = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.push(stream);
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self {
            url,
            accepted,
            _server: tokio_util::task::AbortOnDropHandle::new(server),
        }
    }

    async fn accepted(&self, times: usize) {
        let waiting = timeout(Duration::from_secs(10), async {
            while self.accepted.load(Ordering::SeqCst) < times {
                tokio::task::yield_now().await;
            }
        });
        waiting.await.expect("it is asked");
    }
}

fn presents(identifier: &Arc<Identifier>, token: Secret) -> JoinHandle<Result<(), IdentifyError>> {
    let identifier = Arc::clone(identifier);
    tokio::spawn(async move {
        let caller = identifier.by_token(&token, Proof::ServiceAccountToken);
        let caller = caller.await.map_err(|unproven| unproven.error().clone());
        caller.map(drop)
    })
}

/// The first waits five seconds, all others one; returns how both were refused.
async fn refusals(silent: &Silent, issuer: model::Issuer) -> [IdentifyError; 2] {
    let identifier = Identifier::new(&[issuer], Clock::manual(now())).unwrap();
    let identifier = Arc::new(identifier);
    let first = presents(&identifier, RSA.good_token());
    silent.accepted(1).await;
    pass(control_plane::TIMEOUT).await;
    let first = first.await.unwrap().unwrap_err();
    // A recent failure is cached for a second.
    pass(Duration::from_secs(1)).await;
    let token = RSA.token(
        &json!({ "alg": "RS256", "kid": "rsa-1" }),
        &claims_with("jti", Some("2".into())),
    );
    let second = presents(&identifier, token);
    silent.accepted(2).await;
    pass(outage::PROMPT).await;
    // In real time: less than what the first still had to wait.
    let second = timeout(Duration::from_secs(3), second).await;
    let second = second.expect("it does not wait").unwrap().unwrap_err();
    [first, second]
}

#[tokio::test]
async fn an_api_server_that_hangs_costs_a_request_a_second() {
    let silent = Silent::start().await;
    let directory = tempfile::tempdir().unwrap();
    let keys = write(directory.path(), "jwks.json", &jwks(&[&RSA]).to_string());
    let mut issuer = issuer(JwksSource::File(keys));
    issuer.token_review = Some(model::TokenReview {
        cluster: model::Cluster {
            url: silent.url.clone(),
            ca_file: None,
            token_file: write(directory.path(), "token", "gateway-token"),
        },
        cache_for: Duration::from_secs(10),
    });
    for refused in refusals(&silent, issuer).await {
        assert!(
            matches!(refused, IdentifyError::ReviewUnavailable { .. }),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn keys_that_do_not_come_cost_a_request_a_second() {
    let silent = Silent::start().await;
    let issuer = issuer(JwksSource::Url {
        url: format!("{}/jwks", silent.url),
        ca_file: None,
    });
    for refused in refusals(&silent, issuer).await {
        assert!(
            matches!(refused, IdentifyError::KeysUnavailable { .. }),
            "{refused:?}"
        );
    }
}
