//! Where rotated secret material is kept, and the Vault that secrets are read from.

use std::path::PathBuf;

use crate::{
    model::{Cluster, StateStore, VaultAuth, VaultServer},
    resource::{GatewaySpec, StateSpec, VaultAuthSpec, VaultSpec},
    validate::{
        credential::vault_path,
        fields::{non_blank, safe_url},
        names::{self, NameRule},
    },
    yaml::{Findings, Location},
};

const STATE_DIRECTORY: &str = "/var/lib/countersign/state";

/// Where the method is mounted by default, in Vault as in `OpenBao`.
const KUBERNETES_MOUNT: &str = "kubernetes";

pub(super) fn state(
    gateway: &GatewaySpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<StateStore> {
    let Some(spec) = &gateway.state else {
        return Some(StateStore::Directory {
            path: PathBuf::from(STATE_DIRECTORY),
            key_file: None,
        });
    };
    if let (
        StateSpec {
            directory: None, ..
        },
        Some(_),
    ) = (spec, &spec.key_file)
    {
        findings.error(
            &location.key_name("keyFile"),
            "conflicting-keys",
            "the gateway encrypts only the files of a `directory`",
            "remove it, or keep the state in a `directory`",
        );
        return None;
    }
    match (&spec.directory, &spec.kubernetes, &spec.vault) {
        (Some(directory), None, None) => Some(StateStore::Directory {
            path: PathBuf::from(non_blank(directory, &location.key("directory"), findings)?),
            key_file: spec.key_file.as_ref().map(PathBuf::from),
        }),
        (None, Some(kubernetes), None) => {
            let location = location.key("kubernetes").key("namespace");
            let namespace = kubernetes.namespace.clone();
            names::check(&namespace, NameRule::NAMESPACE, &location, findings)
                .then_some(StateStore::Kubernetes { namespace })
        }
        (None, None, Some(vault)) => {
            let location = location.key("vault");
            if gateway.vault.is_none() {
                findings.error(
                    &location,
                    "missing-key",
                    "no Vault is configured",
                    "add `vault:` with its `address` and `auth` to the gateway",
                );
            }
            let mount = vault_path(&vault.mount, &location.key("mount"), findings);
            let path = vault_path(&vault.path, &location.key("path"), findings);
            gateway.vault.as_ref()?;
            Some(StateStore::Vault {
                mount: mount?,
                path: path?,
            })
        }
        (None | Some(_), _, _) => {
            findings.error(
                location,
                "conflicting-keys",
                "state is kept in exactly one place",
                "write one of `directory`, `kubernetes` and `vault`",
            );
            None
        }
    }
}

pub(super) fn vault(
    spec: &VaultSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<VaultServer> {
    let sound = safe_url(&spec.address, &location.key("address"), findings);
    let auth = match &spec.auth {
        VaultAuthSpec::TokenFile(file) => {
            let location = location.key("auth").key("tokenFile");
            non_blank(file, &location, findings)
                .map(|file| VaultAuth::TokenFile(PathBuf::from(file)))
        }
        VaultAuthSpec::Kubernetes(kubernetes) => {
            let location = location.key("auth").key("kubernetes");
            let role = non_blank(&kubernetes.role, &location.key("role"), findings);
            let mount = kubernetes.mount.as_deref().unwrap_or(KUBERNETES_MOUNT);
            let mount = vault_path(mount, &location.key("mount"), findings);
            let token_file = match &kubernetes.token_file {
                Some(file) => PathBuf::from(file),
                None => Cluster::in_cluster().token_file,
            };
            role.zip(mount).map(|(role, mount)| VaultAuth::Kubernetes {
                role,
                mount,
                token_file,
            })
        }
    };
    sound.then_some(())?;
    Some(VaultServer {
        address: spec.address.trim_end_matches('/').to_owned(),
        ca_file: spec.ca_file.as_ref().map(PathBuf::from),
        namespace: spec.namespace.clone(),
        auth: auth?,
    })
}
