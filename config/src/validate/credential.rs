//! `Credential`: with what.

mod provider;
mod source;

pub(super) use source::vault_path;

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    fields::{date, duration},
    head::Parsed,
    table::ResourceTable,
};
use crate::{
    model::{Credential, JwtExchange, Provider, SecretSource, Target, VaultEngine},
    resource::CredentialSpec,
    yaml::{Findings, Location},
};

/// A credential that no request used for this long is dropped.
const IDLE_AFTER: Duration = Duration::from_mins(10);

pub(super) fn credential(
    written: &Parsed<'_, CredentialSpec>,
    targets: &ResourceTable<Target>,
    now: Option<Timestamp>,
    findings: &Findings,
) -> Option<Credential> {
    let spec = &written.spec;
    let location = written.location();
    let target = targets.resolve(&spec.target, "", &location.key("target"), findings);
    let provider = provider::provider(spec, target.map(|target| &**target), &location, findings);
    let rotate_by = match &spec.rotate_by {
        Some(text) => date(text, &location.key("rotateBy"), findings).map(Some),
        None => Some(None),
    };
    if let (Some(Some(day)), Some(now)) = (rotate_by, now)
        && now.to_zoned(TimeZone::UTC).date() > day
    {
        findings.warning(
            &location.key("rotateBy"),
            "rotation-overdue",
            "this day has passed",
            "replace the secret, and write the day when it is due next",
        );
    }
    let max_age = match &spec.max_age {
        Some(text) => duration(text, &location.key("maxAge"), findings).map(Some),
        None => Some(None),
    };
    let idle_after = match &spec.idle_after {
        Some(text) => duration(text, &location.key("idleAfter"), findings),
        None => Some(IDLE_AFTER),
    };
    if spec.revoke_when_idle
        && let Some(provider) = &provider
        && !can_be_revoked(provider)
    {
        findings.error(
            &location.key_name("revokeWhenIdle"),
            "not-revocable",
            "this credential has nothing that can be revoked",
            "remove it, or add `revokeUrl`, where tokens are revoked",
        );
        return None;
    }
    let allowed_namespaces = allowed_namespaces(written, &location, findings);
    Some(Credential {
        name: written.name.clone(),
        target: target?.name.clone(),
        provider: provider?,
        allowed_namespaces: allowed_namespaces?,
        rotate_by: rotate_by?,
        max_age: max_age?,
        idle_after: idle_after?,
        revoke_when_idle: spec.revoke_when_idle,
    })
}

fn allowed_namespaces(
    written: &Parsed<'_, CredentialSpec>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Vec<String>> {
    let Some(namespaces) = &written.spec.allowed_namespaces else {
        return Some(vec![written.namespace().to_owned()]);
    };
    let location = location.key("allowedNamespaces");
    if namespaces.is_empty() {
        findings.error(
            &location,
            "empty-list",
            "no namespace may use this credential",
            "name one, or remove the key to allow only its own",
        );
        return None;
    }
    let mut sound = true;
    for (index, namespace) in namespaces.iter().enumerate() {
        if namespace.is_empty() || namespace.contains(['*', '/', ' ']) {
            sound = false;
            findings.error(
                &location.index(index),
                "bad-name",
                "this is not one namespace",
                "name each namespace; patterns are not supported here",
            );
        }
    }
    sound.then(|| namespaces.clone())
}

/// Whether its values can be revoked.
fn can_be_revoked(provider: &Provider) -> bool {
    match provider {
        Provider::Static { token: source }
        | Provider::Basic {
            password: source, ..
        } => is_leased(source),
        Provider::SlackRotation { .. } => true,
        Provider::ClientCredentials { endpoint, .. }
        | Provider::TokenExchange { endpoint, .. }
        | Provider::Jwt {
            exchange: Some(JwtExchange::Grant { endpoint, .. }),
            ..
        } => endpoint.revoke_url.is_some(),
        Provider::Jwt {
            exchange: Some(JwtExchange::Installation { .. }) | None,
            ..
        } => false,
    }
}

fn is_leased(source: &SecretSource) -> bool {
    match source {
        SecretSource::Vault { engine, .. } => *engine == VaultEngine::Dynamic,
        SecretSource::File(_)
        | SecretSource::KubernetesSecret { .. }
        | SecretSource::Exec { .. } => false,
    }
}
