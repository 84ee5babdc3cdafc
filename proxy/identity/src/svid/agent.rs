//! Bundles from the SPIFFE Workload API: an agent on this machine sends them at once, and again whenever
//! they change.
//!
//! The client library is used only in this file. While an agent is unavailable the bundles that it gave
//! stay in force; if it gave none, its trust domains have none.

use std::{error::Error, io, path::Path, pin::pin, sync::Arc, time::Duration};

use countersign_core::metrics::Metrics;
use futures_util::StreamExt as _;
use rustls_pki_types::CertificateDer;
use spiffe::{
    TrustDomain as Name, WorkloadApiClient, WorkloadApiError, X509BundleSet, transport::Endpoint,
};
use tokio::{sync::watch, time::timeout};

use super::{TrustDomain, bundle::Bundle};

/// How long an agent may take to accept the connection, and to send its bundles.
const ANSWER: Duration = Duration::from_secs(10);

/// The delays before an agent is tried again: each is twice the previous one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Why an agent sends no bundles.
#[derive(Debug, thiserror::Error)]
enum AgentError {
    #[error(transparent)]
    Api(Box<WorkloadApiError>),
    #[error("it did not respond within {ANSWER:?}")]
    Silent,
    #[error("it closed the stream")]
    Ended,
}

impl From<WorkloadApiError> for AgentError {
    fn from(error: WorkloadApiError) -> Self {
        Self::Api(Box::new(error))
    }
}

/// Receives the bundles of these trust domains from one agent, for as long as it is polled.
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
            error = %describe(&fault),
            trust_domains_without_bundle = without.count(),
            again_in = ?wait,
            "the SPIFFE Workload API is unavailable; its last bundles stay in force"
        );
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Receives from an agent until the stream ends.
async fn listen(socket: &Path, heard: &mut bool, took: impl Fn(&X509BundleSet)) -> AgentError {
    let begin = async {
        let client = WorkloadApiClient::connect(Endpoint::Unix(socket.to_owned())).await?;
        let mut bundles = Box::pin(client.stream_x509_bundles().await?);
        let first = bundles.next().await;
        Ok::<_, WorkloadApiError>((bundles, first))
    };
    let (bundles, mut next) = match timeout(ANSWER, begin).await {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => return error.into(),
        Err(_) => return AgentError::Silent,
    };
    let mut bundles = pin!(bundles);
    loop {
        match next {
            None => return AgentError::Ended,
            Some(Err(error)) => return error.into(),
            Some(Ok(set)) => {
                *heard = true;
                took(&set);
            }
        }
        next = bundles.next().await;
    }
}

/// The agent's answer is complete: a trust domain that it does not name is not trusted.
fn take(domain: &TrustDomain, bundles: &X509BundleSet) {
    let name = domain.name.as_str();
    // Our rules for names are stricter than the library's.
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
            tracing::error!(trust_domain = name, %error, "the agent's bundle cannot be used; the previous one stays in force");
        }
        None => {
            tracing::error!(
                trust_domain = name,
                "the agent gives no bundle for this trust domain; check that it is federated"
            );
            domain.bundle.store(None);
        }
    }
}

/// Why an agent gives no bundles, and what to do about it.
fn describe(fault: &AgentError) -> String {
    let AgentError::Api(error) = fault else {
        return fault.to_string();
    };
    if let WorkloadApiError::NoIdentityIssued | WorkloadApiError::PermissionDenied(_) = **error {
        return "it does not know the gateway; give its workload a registration entry".to_owned();
    }
    // The outermost only says that a transport failed.
    let mut innermost: &(dyn Error + 'static) = &**error;
    loop {
        if let Some(error) = innermost.downcast_ref::<io::Error>()
            && error.get_ref().is_none()
        {
            return match error.kind() {
                io::ErrorKind::NotFound => {
                    "its socket does not exist; check that the agent runs, and that the directory of its socket is mounted here".to_owned()
                }
                io::ErrorKind::ConnectionRefused => {
                    "nothing listens at its socket; check that the agent runs".to_owned()
                }
                io::ErrorKind::PermissionDenied => {
                    "the gateway's user may not open its socket".to_owned()
                }
                kind => format!("its connection failed ({kind})"),
            };
        }
        let Some(source) = innermost.source() else {
            return format!("its answer cannot be used: {innermost}");
        };
        innermost = source;
    }
}
