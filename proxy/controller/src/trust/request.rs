//! How a gateway asks for a certificate, and follows which root signs.

use std::{collections::BTreeMap, time::Duration};

use countersign_config::model::Cluster;
use futures_util::StreamExt as _;
use k8s_openapi::{
    ByteString,
    api::{
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
        core::v1::ConfigMap,
    },
};
use kube::{
    Api, Client, ResourceExt as _,
    api::PostParams,
    core::ObjectMeta,
    runtime::{WatchStreamExt as _, utils::Backoff, watcher, watcher::watch_object},
};
use tokio::time::{sleep, timeout};

use super::{
    names::{AuthorityName, GATEWAY_SIGNER, INTERCEPTION_SIGNER, POD, STATE_KEY},
    sign::Purpose,
    state::{PublicAuthority, PublicState},
};
use crate::{backoff::Calm, client::client};

/// How long a request may take to be signed. Then another is made.
const SIGNED_WITHIN: Duration = Duration::from_secs(30);

/// How long it waits before it reads the files of the client again.
const RETRY: Duration = Duration::from_secs(5);

/// Between two looks at a request, while the API server is away: at most [`SIGNED_WITHIN`] of them.
struct EverySecond;

impl Iterator for EverySecond {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_secs(1))
    }
}

impl Backoff for EverySecond {
    fn reset(&mut self) {}
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum RequestFailure {
    /// The API server refuses, or is away.
    #[error("{0}")]
    Api(String),
    /// The signer refuses.
    #[error("the request {request} was refused ({code}): {told}")]
    Refused {
        /// Its name.
        request: String,
        /// The code of the refusal.
        code: String,
        /// Why, in the words of the signer.
        told: String,
    },
    /// Nobody signs.
    #[error(
        "nobody signed the request {0} within 30s: is the controller running, with `--trust`, and does it lead? See its log"
    )]
    NotSigned(String),
}

/// What is asked for.
#[derive(Debug)]
pub struct CertificateRequest<'r> {
    /// The signer's name.
    pub signer: &'r str,
    /// PKCS#10, PEM.
    pub request: &'r str,
    /// The pod that asks.
    pub pod: &'r str,
}

/// Asks, and waits for the answer: the chain, PEM.
///
/// # Errors
/// When it is refused, not signed in time, or the API server is away.
pub async fn request(
    client: &Client,
    asked: &CertificateRequest<'_>,
) -> Result<Vec<u8>, RequestFailure> {
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let purpose = Purpose::of_signer(asked.signer);
    let usages = purpose.map_or(&[][..], Purpose::usages);
    let prefix = match purpose {
        Some(Purpose::Serving) => "countersign-gateway-",
        Some(Purpose::Intermediate) | None => "countersign-interception-",
    };
    let object = CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some(prefix.to_owned()),
            annotations: Some(BTreeMap::from([(POD.to_owned(), asked.pod.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(asked.request.as_bytes().to_vec()),
            signer_name: asked.signer.to_owned(),
            usages: Some(usages.iter().map(|&usage| usage.to_owned()).collect()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let right = "create, get, list and watch certificatesigningrequests.certificates.k8s.io";
    let failed = |error: &kube::Error| RequestFailure::Api(super::error::explained(error, right));
    let created = timeout(RETRY, api.create(&PostParams::default(), &object)).await;
    let created =
        created.map_err(|_| RequestFailure::Api("the API server does not answer".to_owned()))?;
    let name = created.map_err(|error| failed(&error))?.name_any();
    match timeout(SIGNED_WITHIN, answer(api, &name)).await {
        Ok(found) => chain(name, found),
        Err(_) => Err(RequestFailure::NotSigned(name)),
    }
}

/// Watches the request until it is answered. The API server may be away meanwhile.
async fn answer(
    api: Api<CertificateSigningRequest>,
    name: &str,
) -> Option<CertificateSigningRequest> {
    let mut events = std::pin::pin!(watch_object(api, name).backoff(EverySecond));
    while let Some(event) = events.next().await {
        match event {
            Ok(Some(found)) if answered(&found) => return Some(found),
            Ok(Some(_)) => {}
            // Somebody deleted it.
            Ok(None) => return None,
            Err(error) => tracing::debug!(%error, request = name, "cannot be watched"),
        }
    }
    None
}

fn answered(found: &CertificateSigningRequest) -> bool {
    let status = found.status.as_ref();
    status.is_some_and(|status| status.certificate.is_some()) || refusal(found).is_some()
}

fn refusal(found: &CertificateSigningRequest) -> Option<(String, String)> {
    let conditions = found.status.as_ref()?.conditions.as_ref()?;
    let refused = conditions
        .iter()
        .find(|it| it.type_ == "Denied" || it.type_ == "Failed")?;
    Some((
        refused.reason.clone().unwrap_or_default(),
        refused.message.clone().unwrap_or_default(),
    ))
}

fn chain(
    name: String,
    found: Option<CertificateSigningRequest>,
) -> Result<Vec<u8>, RequestFailure> {
    let Some(found) = found else {
        return Err(RequestFailure::NotSigned(name));
    };
    if let Some((code, told)) = refusal(&found) {
        return Err(RequestFailure::Refused {
            request: name,
            code,
            told,
        });
    }
    let certificate = found.status.and_then(|status| status.certificate);
    certificate
        .map(|certificate| certificate.0)
        .ok_or(RequestFailure::NotSigned(name))
}

/// A client for the gateway's cluster: waits until its files can be read.
pub async fn connected(cluster: &Cluster) -> Client {
    loop {
        match client(cluster) {
            Ok(client) => return client,
            Err(error) => tracing::warn!(%error, "no certificate can be asked for"),
        }
        sleep(RETRY).await;
    }
}

/// Tells of each signer what the state says of it, whenever that changes, for as long as it runs.
pub async fn follow_state(
    client: Client,
    namespace: String,
    name: String,
    tell: impl Fn(&str, &PublicAuthority) + Send,
) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher(api, config).backoff(Calm::default()));
    let mut told = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(found) | watcher::Event::InitApply(found)) => {
                told = false;
                let text = found.data.as_ref().and_then(|data| data.get(STATE_KEY));
                let state: Option<PublicState> =
                    text.and_then(|text| serde_json::from_str(text).ok());
                let Some(state) = state else { continue };
                let signers = [
                    (INTERCEPTION_SIGNER, AuthorityName::Interception),
                    (GATEWAY_SIGNER, AuthorityName::Gateways),
                ];
                for (signer, authority) in signers {
                    if let Some(public) = state.authorities.get(authority.as_str()) {
                        tell(signer, public);
                    }
                }
            }
            Ok(_) => {}
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, %namespace, %name, "which root signs is not known; certificates are renewed when half of their life is over");
                }
            }
        }
    }
}
