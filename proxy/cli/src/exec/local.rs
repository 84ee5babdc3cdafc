//! The gateway for one command.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use countersign_config::model::{
    CaSource, Cluster, DecisionSink, Gateway, Issuer, JwksSource, Limits, Listener, ListenerMode,
    Observe, ResourceSource, StateStore, TrustRoots, Unmatched, Upstream,
};

use crate::subject::Subject;

use super::{
    DRAIN,
    issuer::{AUDIENCE, LocalIssuer},
};

/// The CA's directory, below the private directory.
pub(super) fn ca_directory(private: &Path) -> PathBuf {
    private.join("ca")
}

/// The configured gateway, or a default one, changed to listen on loopback, to trust only `issuer`, and
/// to report only to the user at the terminal.
pub(super) fn gateway(
    configured: Option<Gateway>,
    resources: &[PathBuf],
    private: &Path,
    subject: &Subject,
    issuer: &LocalIssuer,
) -> anyhow::Result<Gateway> {
    let keys = private.join("jwks.json");
    fs::write(&keys, issuer.jwks())
        .with_context(|| format!("{} cannot be written", keys.display()))?;
    let base = match configured {
        Some(gateway) => gateway,
        None => defaults()?,
    };
    let mut limits = base.limits;
    limits.drain = DRAIN;
    Ok(Gateway {
        name: base.name,
        listeners: vec![Listener {
            name: "exec".to_owned(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            mode: ListenerMode::Explicit,
            tls: None,
            own_token_file: None,
        }],
        issuers: vec![Issuer {
            name: subject.cluster.clone(),
            issuer: issuer.url().to_owned(),
            audience: AUDIENCE.to_owned(),
            // The token is made here, for as long as the command may run.
            max_token_life: Duration::MAX,
            jwks: JwksSource::File(keys),
            token_review: None,
            pod_facts: None,
        }],
        trust_domains: Vec::new(),
        resources: resources
            .iter()
            .cloned()
            .map(ResourceSource::Directory)
            .collect(),
        ca: CaSource::Directory(ca_directory(private)),
        state: base.state,
        kubernetes: base.kubernetes,
        service: None,
        vault: base.vault,
        unmatched: base.unmatched,
        upstream: base.upstream,
        observe: Observe {
            decisions: base.observe.decisions,
            audit: None,
            admin: None,
            traces: None,
            console: None,
        },
        limits,
        // Each run has policies and a root of its own.
        continues_earlier_runs: false,
        governance: base.governance,
    })
}

/// A gateway with default settings.
fn defaults() -> anyhow::Result<Gateway> {
    Ok(Gateway {
        name: "exec".to_owned(),
        listeners: Vec::new(),
        issuers: Vec::new(),
        trust_domains: Vec::new(),
        resources: Vec::new(),
        ca: CaSource::Directory(PathBuf::new()),
        state: StateStore::Directory {
            path: state_directory()?,
            key_file: None,
        },
        kubernetes: Cluster::in_cluster(),
        service: None,
        vault: None,
        unmatched: Unmatched::Deny,
        upstream: Upstream {
            roots: TrustRoots::System,
            allow_addresses: Vec::new(),
            resolve: std::collections::BTreeMap::new(),
            proxy: None,
        },
        observe: Observe {
            decisions: vec![DecisionSink::stdout()],
            audit: None,
            admin: None,
            traces: None,
            console: None,
        },
        limits: Limits::default(),
        continues_earlier_runs: false,
        governance: None,
    })
}

/// A directory that outlives the command: without their state, rotated credentials are lost. By the XDG
/// Base Directory Specification.
fn state_directory() -> anyhow::Result<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("countersign"))
        .context("neither XDG_STATE_HOME nor HOME is set: there is no directory for state")
}
