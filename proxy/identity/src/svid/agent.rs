//! Bundles from the SPIFFE Workload API: an agent on this machine sends them at once, and again
//! whenever they change.
//!
//! The library that speaks with it stays behind this file. An agent that is away changes nothing
//! about the bundles it gave; one that gave none leaves its trust domains without.

use std::{path::Path, pin::pin, sync::Arc, time::Duration};

use countersign_core::metrics::Metrics;
use futures_util::StreamExt as _;
use rustls_pki_types::CertificateDer;
use spiffe::{
    TrustDomain as Name, WorkloadApiClient, WorkloadApiError, X509BundleSet, transport::Endpoint,
};
use tokio::{sync::watch, time::timeout};

use super::{TrustDomain, bundle::Bundle};

/// How long an agent may take to accept the connection, and to send what it has.
const ANSWER: Duration = Duration::from_secs(10);

/// The waits before an agent is tried again: each is twice the one before.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Why an agent sends no bundles.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Api(Box<WorkloadApiError>),
    #[error("it did not answer within {ANSWER:?}")]
    Silent,
    #[error("it ended the stream")]
    Ended,
}

impl From<WorkloadApiError> for Fault {
    fn from(error: WorkloadApiError) -> Self {
        Self::Api(Box::new(error))
    }
}

/// Takes the bundles of these trust domains from one agent, for as long as it is polled.
pub(super) async fn follow(
    socket: &Path,
    domains: Vec<Arc<TrustDomain>>,
    changed: &watch::Sender<()>,
    metrics: &Metrics,
) {
    let mut wait = FIRST_WAIT;
    loop {
        let took = |bundles: &X509BundleSet| {
            for domain in &domains {
                take(domain, bundles);
            }
            changed.send_replace(());
            metrics.workload_api(socket, true);
        };
        let mut heard = false;
        let fault = listen(socket, &mut heard, took).await;
        metrics.workload_api(socket, false);
        if heard {
            wait = FIRST_WAIT;
        }
        let without = domains.iter().filter(|it| it.bundle.load().is_none());
        tracing::warn!(
            socket = %socket.display(),
            error = %told(&fault),
            trust_domains_without_bundle = without.count(),
            again_in = ?wait,
            "the SPIFFE Workload API is away; bundles that it gave stay in force"
        );
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Listens to an agent until it is away.
async fn listen(socket: &Path, heard: &mut bool, took: impl Fn(&X509BundleSet)) -> Fault {
    let begin = async {
        let client = WorkloadApiClient::connect(Endpoint::Unix(socket.to_owned())).await?;
        let mut bundles = Box::pin(client.stream_x509_bundles().await?);
        let first = bundles.next().await;
        Ok::<_, WorkloadApiError>((bundles, first))
    };
    let (bundles, mut next) = match timeout(ANSWER, begin).await {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => return error.into(),
        Err(_) => return Fault::Silent,
    };
    let mut bundles = pin!(bundles);
    loop {
        match next {
            None => return Fault::Ended,
            Some(Err(error)) => return error.into(),
            Some(Ok(set)) => {
                *heard = true;
                took(&set);
            }
        }
        next = bundles.next().await;
    }
}

/// What the agent says is the whole truth: a trust domain that it does not name is not vouched for.
fn take(domain: &TrustDomain, bundles: &X509BundleSet) {
    let name = domain.name.as_str();
    // Our names are stricter than the library's.
    let given = Name::new(name).ok().and_then(|name| bundles.get(&name));
    let given = given.map(|bundle| {
        let roots = bundle.authorities().iter();
        let roots = roots.map(|root| CertificateDer::from(root.as_bytes().to_vec()));
        Bundle::of(roots.collect())
    });
    match given {
        Some(Ok(bundle)) => {
            tracing::info!(trust_domain = name, "the agent gave a bundle");
            domain.bundle.store(Some(Arc::new(bundle)));
        }
        Some(Err(error)) => {
            tracing::error!(trust_domain = name, %error, "the agent's bundle cannot be used; the one before stays in force");
        }
        None => {
            tracing::error!(
                trust_domain = name,
                "the agent gives no bundle for this trust domain: is it federated with?"
            );
            domain.bundle.store(None);
        }
    }
}

/// An error with its causes: the outermost says no more than that a transport failed.
fn told(fault: &Fault) -> String {
    let mut text = fault.to_string();
    let mut cause = std::error::Error::source(fault);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}
