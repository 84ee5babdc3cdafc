//! The state stores under replicas that write at the same time, checked for linearizability; and
//! replicas over the shared stores that are killed.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use countersign_config::{
    load,
    model::{self, ResourceName},
};
use countersign_core::clock::Clock;
use countersign_credential::{
    StateError,
    state::{State, Version},
    vault::Vault,
};
use countersign_tests::{
    environment::Environment,
    fake::{Authority, Grant},
    kube_apiserver::KubeApiServer,
    linear::{self, Operation, Span},
    openbao::OpenBao,
};
use tokio::task::JoinSet;

use crate::credentials::crash;

/// The namespace of the Secrets.
pub(crate) const NAMESPACE: &str = "countersign";

/// Has the environment's gateway keep its state elsewhere.
fn keep_in(env: &Environment, state: &str, further: &str) -> anyhow::Result<()> {
    let root = env.directory().display();
    let directory = format!("  state: {{ directory: {root}/state }}\n");
    Ok(env.edit_gateway(&directory, &format!("  state: {state}\n{further}"))?)
}

pub(crate) fn keep_in_directory(env: &Environment, path: &Path) -> anyhow::Result<()> {
    keep_in(env, &format!("{{ directory: {} }}", path.display()), "")
}

fn keep_in_kubernetes(env: &Environment) -> anyhow::Result<()> {
    let grant = Grant::all(NAMESPACE, &["get", "create", "update"]);
    env.api_server.grant(grant);
    keep_in_secrets(env, &env.api_server.url())
}

/// The token is in `secrets/gateway-token`.
pub(crate) fn keep_in_secrets(env: &Environment, url: &str) -> anyhow::Result<()> {
    let root = env.directory().display();
    keep_in(
        env,
        &format!("{{ kubernetes: {{ namespace: {NAMESPACE} }} }}"),
        &format!(
            "  kubernetes:\n    url: \"{url}\"\n    caFile: {root}/upstream-roots.pem\n    \
             tokenFile: {root}/secrets/gateway-token\n"
        ),
    )
}

/// Each environment has a path of its own.
pub(crate) fn keep_in_vault(
    env: &Environment,
    url: &str,
    ca: &str,
    token: &str,
) -> anyhow::Result<()> {
    static PATHS: AtomicU64 = AtomicU64::new(0);
    let root = env.directory();
    fs::write(root.join("vault-roots.pem"), ca)?;
    fs::write(root.join("vault-token"), token)?;
    let (root, path) = (root.display(), PATHS.fetch_add(1, Ordering::Relaxed));
    keep_in(
        env,
        &format!("{{ vault: {{ mount: secret, path: countersign/{path} }} }}"),
        &format!(
            "  vault:\n    address: \"{url}\"\n    caFile: {root}/vault-roots.pem\n    \
             auth: {{ tokenFile: {root}/vault-token }}\n"
        ),
    )
}

fn state(gateway: &model::Gateway) -> State {
    let clock = Clock::system();
    let vault = gateway.vault.as_ref();
    let vault = vault.map(|server| Vault::new(server, clock.clone()));
    State::new(gateway, vault, clock)
}

/// Replicas that read and replace one document as fast as they can, and what they saw.
async fn contend(
    env: &Environment,
    replicas: usize,
    rounds: usize,
) -> anyhow::Result<Vec<(Span, Operation)>> {
    let time = Arc::new(AtomicU64::new(0));
    let mut running = JoinSet::new();
    for replica in 0..replicas {
        let (gateway, _) =
            load::gateway(&env.gateway_yaml()).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let state = state(&gateway);
        let time = Arc::clone(&time);
        running.spawn(contender(state, time, replica as u64 + 1, rounds));
    }
    let mut history = Vec::new();
    while let Some(done) = running.join_next().await {
        history.extend(done??);
    }
    Ok(history)
}

async fn contender(
    state: State,
    time: Arc<AtomicU64>,
    replica: u64,
    rounds: usize,
) -> anyhow::Result<Vec<(Span, Operation)>> {
    let name = ResourceName::namespaced("qa", "slack-bot");
    // A clock that counts events orders what follows another, which is all that matters.
    let tick = || time.fetch_add(1, Ordering::SeqCst);
    let mut history = Vec::new();
    let mut done = 0;
    while done < rounds {
        let called = tick();
        let read = state.read(&name).await?;
        let returned = tick();
        let old = read.document.serial;
        anyhow::ensure!((old == 0) == (read.version == Version::Absent), "{read:?}");
        history.push((Span { called, returned }, Operation::Read(old)));
        let mut next = read.document;
        // A value that nobody else writes.
        next.serial = replica * 1_000_000 + done as u64 + 1;
        let called = tick();
        let replaced = state.replace(&name, &read.version, &next).await;
        let returned = tick();
        let new = next.serial;
        history.push(match replaced {
            Ok(_) => {
                done += 1;
                (Span { called, returned }, Operation::Replaced { old, new })
            }
            Err(StateError::Conflict) => (Span { called, returned }, Operation::Refused { old }),
            Err(error) => return Err(error).context("the store is well"),
        });
    }
    Ok(history)
}

/// That the history is explained, and that there was something to explain.
fn judge(history: &[(Span, Operation)], writings: usize) {
    let count = |wanted: fn(&Operation) -> bool| history.iter().filter(|(_, o)| wanted(o)).count();
    let replaced = count(|operation| matches!(operation, Operation::Replaced { .. }));
    let refused = count(|operation| matches!(operation, Operation::Refused { .. }));
    assert_eq!(replaced, writings);
    assert_ne!(refused, 0, "nobody got in another's way");
    let count = history.len();
    countersign_tests::shown(&format!("{count} operations, {refused} refused"));
    assert_eq!(linear::check(history), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_linearizable() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    judge(&contend(&env, 4, 25).await?, 100);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubernetes_secrets_are_linearizable() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    keep_in_kubernetes(&env)?;
    judge(&contend(&env, 4, 25).await?, 100);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_a_real_api_server_are_linearizable() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let Some(server) = KubeApiServer::start(&env.authority).await? else {
        return Ok(());
    };
    server.create_namespace(NAMESPACE).await?;
    env.write_secret("gateway-token", server.token())?;
    keep_in_secrets(&env, &server.url())?;
    judge(&contend(&env, 4, 25).await?, 100);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vault_is_linearizable() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let Some(bao) = OpenBao::start(&env.authority).await? else {
        return Ok(());
    };
    keep_in_vault(&env, &bao.url(), bao.ca_pem(), bao.root_token())?;
    judge(&contend(&env, 4, 25).await?, 100);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_over_kubernetes_is_killed_two_hundred_times() -> anyhow::Result<()> {
    crash::kill("kubernetes", 1, 10, crash::KILLS, keep_in_kubernetes).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_replicas_over_kubernetes_is_killed_two_hundred_times() -> anyhow::Result<()> {
    crash::kill("kubernetes", 3, 10, crash::KILLS, keep_in_kubernetes).await
}

async fn over_vault(replicas: usize) -> anyhow::Result<()> {
    let Some(bao) = OpenBao::start(&Authority::default()).await? else {
        return Ok(());
    };
    let (url, ca, token) = (
        bao.url(),
        bao.ca_pem().to_owned(),
        bao.root_token().to_owned(),
    );
    let keep = move |env: &Environment| keep_in_vault(env, &url, &ca, &token);
    crash::kill("vault", replicas, 10, crash::KILLS, keep).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_over_vault_is_killed_two_hundred_times() -> anyhow::Result<()> {
    over_vault(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_replicas_over_vault_is_killed_two_hundred_times() -> anyhow::Result<()> {
    over_vault(3).await
}
