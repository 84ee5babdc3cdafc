//! Carries a gateway's requests for certificates to the signers in its cluster, and what they sign back.

use std::{path::Path, sync::Arc, time::Duration};

use countersign_controller::trust::{CertificateRequest, connected, follow_state, request};
use countersign_gateway::app::{SignedCertificate, Signing};
use kube::Client;
use tokio::time::sleep;

/// How long it waits after a request that failed: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The file beside the gateway's token with the namespace that it is of.
const NAMESPACE: &str = "namespace";

/// Keeps all certificates, for as long as the process runs.
pub(super) async fn keep(signing: Signing) {
    let client = connected(&signing.cluster).await;
    let pod = std::env::var("HOSTNAME").unwrap_or_default();
    for certificate in &signing.certificates {
        let (certificate, client) = (Arc::clone(certificate), client.clone());
        tokio::spawn(keep_one(certificate, client, pod.clone()));
    }
    let Some(namespace) = namespace(&signing.cluster.token_file).await else {
        tracing::warn!(
            token = %signing.cluster.token_file.display(),
            "the gateway's namespace is not beside its token, so that it does not see that another root signs; certificates are renewed when half of their life is over"
        );
        return;
    };
    let certificates = signing.certificates;
    follow_state(client, namespace, signing.state, move |signer, public| {
        for certificate in certificates.iter().filter(|it| it.signer() == signer) {
            certificate.root_signs(&public.signs, public.replaced_another_at);
        }
    })
    .await;
}

async fn keep_one(certificate: Arc<SignedCertificate>, client: Client, pod: String) {
    let mut pause = FIRST_PAUSE;
    loop {
        let kept = keep_once(&certificate, &client, &pod).await;
        let Err(why) = kept else {
            pause = FIRST_PAUSE;
            continue;
        };
        tracing::warn!(signer = certificate.signer(), "no certificate: {why}");
        certificate.failed(&why);
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn keep_once(
    certificate: &SignedCertificate,
    client: &Client,
    pod: &str,
) -> Result<(), String> {
    let due = certificate.due(pod).await;
    let due = due.map_err(|error| error.to_string())?;
    let asked = CertificateRequest {
        signer: certificate.signer(),
        request: &due.request,
        pod,
    };
    let chain = request(client, &asked).await;
    let chain = chain.map_err(|error| error.to_string())?;
    certificate.take(due, &chain)
}

async fn namespace(token_file: &Path) -> Option<String> {
    let file = token_file.parent()?.join(NAMESPACE);
    let text = countersign_core::files::read(&file).await.ok()?;
    let text = String::from_utf8(text).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
