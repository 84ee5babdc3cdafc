//! The webhook's own certificate: made by the leader, kept in a Secret that each replica follows, renewed when half of
//! its life is over. The leader writes its CA into the webhook configurations.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign_core::clock::Clock;
use countersign_pki::{CaKey, Names, Request, Subtree, Validity, pem};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::{
    Api, Client, Resource,
    api::PostParams,
    core::ClusterResourceScope,
    runtime::{WatchStreamExt as _, watcher},
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    TrustError,
    authority::{Authorities, Authority},
    error::explained,
    names::WEBHOOK_SECRET,
    secret::KeySecret,
    settings::TrustSettings,
};
use crate::{
    admission::{certificate::ServingCertificate, webhooks::CONFIGURATION},
    backoff::Calm,
};

/// Makes or renews the certificate, if that is due.
pub(super) async fn keep(
    client: &Client,
    settings: &TrustSettings,
    authorities: &Authorities,
    now: Timestamp,
) -> Result<(), TrustError> {
    let api: Api<KeySecret> = Api::namespaced(client.clone(), &settings.namespace);
    let right = format!("get, create and update the Secret {WEBHOOK_SECRET}");
    let failed = |error: kube::Error| {
        let why = explained(&error, &right);
        TrustError::Api(format!("the Secret {WEBHOOK_SECRET} cannot be used: {why}"))
    };
    let found = api.get_opt(WEBHOOK_SECRET).await.map_err(failed)?;
    let names = names(settings);
    if found
        .as_ref()
        .is_some_and(|found| is_fresh(found, &names, &authorities.gateways, now))
    {
        return Ok(());
    }
    let made = make(settings, &authorities.gateways, &names, now)?;
    let written = match found {
        None => api.create(&PostParams::default(), &made).await,
        Some(found) => {
            let renewed = found.with(made.data);
            api.replace(WEBHOOK_SECRET, &PostParams::default(), &renewed)
                .await
        }
    };
    written.map_err(failed)?;
    tracing::info!(secret = WEBHOOK_SECRET, "the webhook has a new certificate");
    Ok(())
}

/// The names by which the API server calls the webhook.
fn names(settings: &TrustSettings) -> Names {
    let service = format!("{}.{}.svc", settings.webhook_service, settings.namespace);
    let whole = format!("{service}.{}", settings.cluster_domain);
    [service, whole].into_iter().map(Subtree::Dns).collect()
}

fn make(
    settings: &TrustSettings,
    authority: &Authority,
    names: &Names,
    now: Timestamp,
) -> Result<KeySecret, TrustError> {
    let key = CaKey::generate()?;
    let request = Request::write(&key, "Countersign webhook", names)?;
    let request = Request::read(request.as_bytes());
    let request = request.map_err(|error| TrustError::Internal(error.to_string()))?;
    let root = &authority.current;
    let validity = Validity::starting(now, settings.serving_life).within(root.validity);
    let certificate = request.sign_leaf("Countersign webhook", &root.issuer, validity)?;
    let data = [
        ("tls.crt", pem(&certificate) + &pem(&root.certificate)),
        ("ca.crt", authority.trusted_pem()),
    ];
    let data = data.map(|(name, text)| (name.to_owned(), text.as_str().into()));
    let key = ("tls.key".to_owned(), key.to_pem().as_str().into());
    Ok(KeySecret::new(
        WEBHOOK_SECRET,
        "kubernetes.io/tls",
        data.into_iter().chain([key]),
    ))
}

/// Whether it holds more than half of its life on, has its names, and the root that signs has signed it.
fn is_fresh(secret: &KeySecret, names: &Names, authority: &Authority, now: Timestamp) -> bool {
    let (Some(chain), Some(key)) = (secret.get("tls.crt"), secret.get("tls.key")) else {
        return false;
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let Ok([leaf, root]) = chain.as_deref() else {
        return false;
    };
    if *root != authority.current.certificate {
        return false;
    }
    let Some(validity) = countersign_core::certificate::Validity::of(leaf) else {
        return false;
    };
    let half = validity.not_after.duration_since(validity.not_before) / 2;
    let left = validity.not_after.duration_since(now);
    now >= validity.not_before
        && left > half
        && countersign_pki::has_names(leaf, names)
        && ServingCertificate::is_pair(chain_of(leaf, root), key)
}

fn chain_of(
    leaf: &CertificateDer<'static>,
    root: &CertificateDer<'static>,
) -> Vec<CertificateDer<'static>> {
    vec![leaf.clone(), root.clone()]
}

/// Writes the CA into both webhook configurations, where it is another. Those that are not there are installed without
/// a webhook.
pub(super) async fn keep_ca(client: &Client, authorities: &Authorities) -> Result<(), TrustError> {
    let ca = STANDARD.encode(authorities.gateways.trusted_pem());
    keep_ca_in::<MutatingWebhookConfiguration>(client, &ca).await?;
    keep_ca_in::<ValidatingWebhookConfiguration>(client, &ca).await
}

async fn keep_ca_in<K>(client: &Client, ca: &str) -> Result<(), TrustError>
where
    K: Resource<Scope = ClusterResourceScope, DynamicType = ()>
        + Clone
        + fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let failed = |error: kube::Error| {
        let kind = K::kind(&()).to_lowercase();
        let why = explained(
            &error,
            &format!("get and update the {kind} {CONFIGURATION}"),
        );
        TrustError::Api(format!("the webhooks' CA cannot be written: {why}"))
    };
    let Some(found) = api.get_opt(CONFIGURATION).await.map_err(failed)? else {
        return Ok(());
    };
    let internal = |error: serde_json::Error| TrustError::Internal(error.to_string());
    let mut object = serde_json::to_value(&found).map_err(internal)?;
    let hooks = object["webhooks"].as_array_mut().into_iter().flatten();
    let mut changed = false;
    for hook in hooks {
        let shown = &mut hook["clientConfig"]["caBundle"];
        if shown.as_str() != Some(ca) {
            *shown = ca.into();
            changed = true;
        }
    }
    if !changed {
        return Ok(());
    }
    let object: K = serde_json::from_value(object).map_err(internal)?;
    match api
        .replace(CONFIGURATION, &PostParams::default(), &object)
        .await
    {
        // Whoever changed it meanwhile, it is looked at again.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        replaced => replaced.map(drop).map_err(failed),
    }
}

/// Shows what the Secret holds, for as long as it runs.
pub async fn follow(
    client: Client,
    namespace: String,
    certificate: Arc<ServingCertificate>,
    clock: Clock,
) {
    let api: Api<KeySecret> = Api::namespaced(client, &namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={WEBHOOK_SECRET}"));
    let mut events = std::pin::pin!(watcher(api, config).backoff(Calm::default()));
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(secret) | watcher::Event::InitApply(secret)) => {
                let chain = secret.get("tls.crt").unwrap_or_default();
                let key = secret.get("tls.key").unwrap_or_default();
                certificate.show(chain, key, &clock);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, secret = WEBHOOK_SECRET, "cannot be watched; a role must grant to get, list and watch it");
            }
        }
    }
}
