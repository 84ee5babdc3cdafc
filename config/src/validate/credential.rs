//! `Credential`: with what.

mod provider;
mod source;

pub(super) use source::vault_path;

use std::time::Duration;

use super::{
    deadline::Deadline,
    fields::{date, duration},
    head::Parsed,
    names::{self, NameRule},
    table::ResourceTable,
};
use crate::{
    model::{Credential, JwtExchange, Provider, SecretSource, Target, VaultEngine},
    resource::CredentialSpec,
    setting::Setting,
    yaml::{Findings, Location, Node, Value},
};

/// A credential that no request used for this long is dropped.
const IDLE_AFTER: Duration = Duration::from_mins(10);

pub(super) fn credential(
    written: &Parsed<'_, CredentialSpec>,
    targets: &ResourceTable<Target>,
    setting: &Setting,
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
    if let (Some(Some(day)), Some(now)) = (rotate_by, setting.now) {
        Deadline::ROTATION.check(day, now, &location.key("rotateBy"), findings);
    }
    if setting
        .proven
        .as_ref()
        .is_some_and(|gateway| !gateway.has_vault)
    {
        no_vault(written, findings);
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

/// Warns about a secret in a Vault that the gateway does not know.
fn no_vault(written: &Parsed<'_, CredentialSpec>, findings: &Findings) {
    let Some((_, spec)) = written.document.root.entry("spec") else {
        return;
    };
    if let Some((line, column)) = vault_key(spec) {
        findings.warning(
            &Location::position(written.document.source, line, column),
            "no-vault",
            "the gateway has no `vault`, so this secret cannot be read",
            "add `vault:` with its `address` and `auth` to the gateway",
        );
    }
}

/// The line and column of the first key `vault` in a credential.
fn vault_key(node: &Node) -> Option<(usize, usize)> {
    match &node.value {
        Value::Map(entries) => entries.iter().find_map(|(key, value)| {
            if key.text == "vault" {
                return Some((key.line, key.column));
            }
            vault_key(value)
        }),
        Value::List(items) => items.iter().find_map(vault_key),
        _ => None,
    }
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
        let location = location.index(index);
        sound &= names::check(namespace, NameRule::NAMESPACE, &location, findings);
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
