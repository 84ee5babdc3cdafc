//! What identifying callers needs from others at the start: bundles of agents, keys of issuers.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::state::GatewayState;
use crate::observe::admin::AdminState;

/// How long the gateway waits for the first bundles of the trust domains' agents before it serves.
const FIRST_BUNDLES: Duration = Duration::from_secs(2);

/// How long all sources of callers are waited for. Then a gateway is ready if it can use one of them: it must
/// not stay away from the callers of one cluster because another is down.
const ALL_SOURCES: Duration = Duration::from_secs(30);

/// How often `/readyz` is told what is waited for.
const LOOK: Duration = Duration::from_secs(1);

/// Follows the agents that provide trust bundles, and waits a moment for the first ones: until then their
/// certificates are refused.
pub(super) async fn follow_agents(gateway: &Arc<GatewayState>) {
    let follower = Arc::clone(gateway);
    gateway.lifecycle.tasks.spawn(async move {
        let trust_domains = follower.access.identifier.trust_domains();
        tokio::select! {
            () = follower.lifecycle.drain.cancelled() => {}
            // It ends if there is no agent.
            () = trust_domains.follow(follower.recorder.metrics()) => {}
        }
    });
    let complete = gateway.access.identifier.trust_domains().complete();
    if tokio::time::timeout(FIRST_BUNDLES, complete).await.is_err() {
        tracing::error!(
            "a trust domain has no bundle yet; its certificates are refused until its agent gives one"
        );
    }
}

/// Fetches what identity needs. Until then no caller can be identified, and the gateway is not ready.
pub(super) fn prepare(gateway: &Arc<GatewayState>, state: &AdminState) {
    let missing = gateway.access.identifier.missing();
    state.set_identity(missing.why.is_empty(), &missing.why);
    if missing.why.is_empty() {
        return;
    }
    let (preparing, state) = (Arc::clone(gateway), state.clone());
    gateway.lifecycle.tasks.spawn(async move {
        tokio::select! {
            () = preparing.lifecycle.drain.cancelled() => {}
            () = until_prepared(&preparing, &state) => {}
        }
    });
}

async fn until_prepared(gateway: &GatewayState, state: &AdminState) {
    let identifier = &gateway.access.identifier;
    let began = Instant::now();
    let mut usable = false;
    let mut prepared = pin!(identifier.prepare());
    loop {
        tokio::select! {
            () = &mut prepared => break,
            () = sleep(LOOK) => {}
        }
        let missing = identifier.missing();
        if !usable && missing.some_usable && began.elapsed() >= ALL_SOURCES {
            usable = true;
            tracing::error!(
                waiting_for = missing.why.join("; "),
                "the gateway is ready, but not for the callers of every source"
            );
        }
        state.set_identity(usable, &missing.why);
    }
    state.set_identity(true, &[]);
    tracing::info!("callers of every source can be identified");
}
