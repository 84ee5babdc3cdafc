//! `Credential`: with what.

use std::path::PathBuf;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    fields::{date, duration, said},
    head::Written,
    shelf::Shelf,
};
use crate::{
    model::{Credential, Provider, SecretSource, Target},
    resource::{CredentialSpec, SecretReference, SlackRotationSpec},
    yaml::{Findings, Spot},
};

pub(super) fn credential(
    written: &Written<'_, CredentialSpec>,
    targets: &Shelf<Target>,
    now: Option<Timestamp>,
    findings: &Findings,
) -> Option<Credential> {
    let spec = &written.spec;
    let spot = written.spot();
    let target = targets.resolve(&spec.target, "", &spot.key("target"), findings);
    let provider = provider(spec, &spot, findings);
    let rotate_by = match &spec.rotate_by {
        Some(text) => date(text, &spot.key("rotateBy"), findings).map(Some),
        None => Some(None),
    };
    if let (Some(Some(day)), Some(now)) = (rotate_by, now)
        && now.to_zoned(TimeZone::UTC).date() > day
    {
        findings.warning(
            &spot.key("rotateBy"),
            "rotation-overdue",
            "this day is over",
            "replace the secret, and write the next day it is due",
        );
    }
    let max_age = match &spec.max_age {
        Some(text) => duration(text, &spot.key("maxAge"), findings).map(Some),
        None => Some(None),
    };
    let allowed_namespaces = allowed_namespaces(written, &spot, findings);
    Some(Credential {
        name: written.name.clone(),
        target: target?.name.clone(),
        provider: provider?,
        allowed_namespaces: allowed_namespaces?,
        rotate_by: rotate_by?,
        max_age: max_age?,
    })
}

fn allowed_namespaces(
    written: &Written<'_, CredentialSpec>,
    spot: &Spot<'_>,
    findings: &Findings,
) -> Option<Vec<String>> {
    let Some(namespaces) = &written.spec.allowed_namespaces else {
        return Some(vec![written.namespace().to_owned()]);
    };
    let spot = spot.key("allowedNamespaces");
    if namespaces.is_empty() {
        findings.error(
            &spot,
            "empty-list",
            "no namespace may use this credential",
            "name one, or leave the key out to allow its own",
        );
        return None;
    }
    let mut sound = true;
    for (index, namespace) in namespaces.iter().enumerate() {
        if namespace.is_empty() || namespace.contains(['*', '/', ' ']) {
            sound = false;
            findings.error(
                &spot.index(index),
                "bad-name",
                "this is not one namespace",
                "name each namespace; there are no patterns here",
            );
        }
    }
    sound.then(|| namespaces.clone())
}

fn provider(spec: &CredentialSpec, spot: &Spot<'_>, findings: &Findings) -> Option<Provider> {
    match (&spec.static_token, &spec.slack_rotation) {
        (Some(fixed), None) => {
            let spot = spot.key("static").key("token");
            Some(Provider::Static {
                token: source(&fixed.token, &spot, findings)?,
            })
        }
        (None, Some(rotation)) => slack_rotation(rotation, &spot.key("slackRotation"), findings),
        (None, None) => {
            findings.error(
                spot,
                "missing-key",
                "the credential does not say how it is obtained",
                "add `static:` or `slackRotation:`",
            );
            None
        }
        (Some(_), Some(_)) => {
            findings.error(
                &spot.key_name("slackRotation"),
                "conflicting-keys",
                "a credential is obtained in one way only",
                "keep one of `static` and `slackRotation`",
            );
            None
        }
    }
}

fn slack_rotation(
    rotation: &SlackRotationSpec,
    spot: &Spot<'_>,
    findings: &Findings,
) -> Option<Provider> {
    let client_id = said(&rotation.client_id, &spot.key("clientId"), findings);
    let client_secret = source(&rotation.client_secret, &spot.key("clientSecret"), findings);
    let refresh_token = source(&rotation.refresh_token, &spot.key("refreshToken"), findings);
    Some(Provider::SlackRotation {
        client_id: client_id?,
        client_secret: client_secret?,
        refresh_token: refresh_token?,
    })
}

fn source(
    reference: &SecretReference,
    spot: &Spot<'_>,
    findings: &Findings,
) -> Option<SecretSource> {
    match reference {
        SecretReference::File(path) => {
            let path = said(path, &spot.key("file"), findings)?;
            if !path.contains('/') {
                findings.error(
                    &spot.key("file"),
                    "inline-secret",
                    "this is not the path of a file",
                    "write where the file is, such as `/run/secrets/qase/token`; never the secret",
                );
                return None;
            }
            Some(SecretSource::File(PathBuf::from(path)))
        }
        SecretReference::KubernetesSecret(secret) => {
            let spot = spot.key("kubernetesSecret");
            let name = said(&secret.name, &spot.key("name"), findings);
            let key = said(&secret.key, &spot.key("key"), findings);
            Some(SecretSource::KubernetesSecret {
                name: name?,
                key: key?,
            })
        }
        SecretReference::Vault(field) => {
            let spot = spot.key("vault");
            let path = said(&field.path, &spot.key("path"), findings);
            let key = said(&field.key, &spot.key("key"), findings);
            Some(SecretSource::Vault {
                path: path?,
                key: key?,
            })
        }
    }
}
