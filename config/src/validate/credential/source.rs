//! Where a secret is stored.

use std::{path::PathBuf, time::Duration};

use crate::{
    model::{SecretSource, VaultEngine},
    resource::{ExecSpec, SecretReference, VaultEngineSpec, VaultKey},
    validate::{
        fields::{duration, non_blank},
        names::{self, NameRule},
    },
    yaml::{Findings, Location},
};

/// Where KV v2 is mounted by default, in Vault as in `OpenBao`.
const MOUNT: &str = "secret";

const EXEC_TIMEOUT: Duration = Duration::from_secs(10);

/// A request waits for the helper.
const LONGEST_EXEC: Duration = Duration::from_mins(1);

pub(super) fn source(
    reference: &SecretReference,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<SecretSource> {
    match reference {
        SecretReference::File(path) => {
            let path = non_blank(path, &location.key("file"), findings)?;
            if !path.contains('/') {
                findings.error(
                    &location.key("file"),
                    "inline-secret",
                    "this is not the path of a file",
                    "write the path of the file, such as `/run/secrets/qase/token`, never the secret",
                );
                return None;
            }
            Some(SecretSource::File(PathBuf::from(path)))
        }
        SecretReference::KubernetesSecret(secret) => {
            let location = location.key("kubernetesSecret");
            let name = names::check(
                &secret.name,
                NameRule::SECRET,
                &location.key("name"),
                findings,
            );
            let key = names::secret_key(&secret.key, &location.key("key"), findings);
            (name && key).then(|| SecretSource::KubernetesSecret {
                name: secret.name.clone(),
                key: secret.key.clone(),
            })
        }
        SecretReference::Vault(field) => vault(field, &location.key("vault"), findings),
        SecretReference::Exec(helper) => exec(helper, &location.key("exec"), findings),
    }
}

fn vault(field: &VaultKey, location: &Location<'_>, findings: &Findings) -> Option<SecretSource> {
    let mount = vault_path(
        field.mount.as_deref().unwrap_or(MOUNT),
        &location.key("mount"),
        findings,
    );
    let path = vault_path(&field.path, &location.key("path"), findings);
    let key = non_blank(&field.key, &location.key("key"), findings);
    Some(SecretSource::Vault {
        mount: mount?,
        path: path?,
        key: key?,
        engine: match field.engine {
            None | Some(VaultEngineSpec::Kv2) => VaultEngine::Kv2,
            Some(VaultEngineSpec::Dynamic) => VaultEngine::Dynamic,
        },
    })
}

/// An unambiguous path: no empty or dotted segment, nothing that has a special meaning in a URL.
pub(in crate::validate) fn vault_path(
    text: &str,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<String> {
    let sound = !text.is_empty()
        && text.split('/').all(|segment| {
            !matches!(segment, "" | "." | "..")
                && segment
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && !b"?#%\\".contains(&byte))
        });
    if !sound {
        findings.error(
            location,
            "bad-path",
            "this is not a path within Vault",
            "write it without a `/` at its ends, such as `qa/slack`",
        );
    }
    sound.then(|| text.to_owned())
}

fn exec(helper: &ExecSpec, location: &Location<'_>, findings: &Findings) -> Option<SecretSource> {
    let absolute = helper
        .command
        .first()
        .is_some_and(|program| program.starts_with('/'));
    if !absolute {
        findings.error(
            &location.key("command"),
            "bad-command",
            "this is not the absolute path of a program",
            "write the program and each of its arguments, such as `[/usr/local/bin/helper, slack]`",
        );
    }
    let timeout = match &helper.timeout {
        Some(text) => duration(text, &location.key("timeout"), findings),
        None => Some(EXEC_TIMEOUT),
    };
    if timeout.is_some_and(|timeout| timeout > LONGEST_EXEC) {
        findings.error(
            &location.key("timeout"),
            "bad-duration",
            "a request waits for the helper, so the limit is one minute",
            "write `1m` or less",
        );
        return None;
    }
    absolute.then_some(())?;
    Some(SecretSource::Exec {
        command: helper.command.clone(),
        timeout: timeout?,
    })
}
