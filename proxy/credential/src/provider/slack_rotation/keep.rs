//! Pairs that could not be kept when Slack gave them: kept as soon as the store takes them, whether or
//! not a request asks for the credential, and at the latest before the process ends.

use std::{sync::Arc, time::Duration};

use countersign_config::model::ResourceName;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    Tools,
    state::{StateError, Turn},
};

/// The pauses between attempts while the process runs.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The pauses between attempts when it is about to end.
const LAST_PAUSE: Duration = Duration::from_millis(250);

/// The least time that an attempt has at the end.
const LAST_ATTEMPT: Duration = Duration::from_secs(2);

/// Tries to keep a credential's pair, if there is one that is not kept, until that is done.
pub(crate) fn keep_soon(tools: &Arc<Tools>, name: &ResourceName) {
    if !tools.rotations.begin_keeping(name) {
        return;
    }
    let (tools, name) = (Arc::clone(tools), name.clone());
    tokio::spawn(async move {
        let mut pause = FIRST_PAUSE;
        while !tools.rotations.is_ending() {
            sleep(pause).await;
            match keep(&tools, &name).await {
                Ok(()) => break,
                // Told where the pair could not be kept first.
                Err(error) => tracing::debug!(credential = %name, %error, "not kept yet"),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        tools.rotations.end_keeping(&name);
    });
}

/// Keeps what is not kept yet, trying until then; says what could not be kept.
pub(crate) async fn keep_before_end(tools: &Tools, end: Instant) {
    let end = end.max(Instant::now() + LAST_ATTEMPT);
    let unsaved = tools.rotations.unsaved();
    join_all(unsaved.iter().map(|name| keep_until(tools, name, end))).await;
}

async fn keep_until(tools: &Tools, name: &ResourceName, end: Instant) {
    let mut last = None;
    let trying = async {
        while let Err(error) = keep(tools, name).await {
            last = Some(error);
            sleep(LAST_PAUSE).await;
        }
    };
    if timeout_at(end, trying).await.is_err() {
        let error = last.map_or_else(|| "it did not answer".to_owned(), |last| last.to_string());
        tracing::error!(
            credential = %name, %error,
            "the new token could not be kept before the end, and goes with this process; mend the \
             state store and start the gateway at once, since Slack takes the token before once more \
             for a short while; after it, reinstall the app and put its new refresh token where the \
             credential's seed is"
        );
    }
}

/// Keeps a pair, unless another replica's stands there by now.
async fn keep(tools: &Tools, name: &ResourceName) -> Result<(), StateError> {
    let memory = &tools.rotations;
    let _unfinished = memory.begin();
    let claim = match tools
        .state
        .turn(name, |kept| memory.is_next(name, kept))
        .await?
    {
        Turn::Ours(claim) => claim,
        Turn::Settled(_) => {
            // It was kept by a request, or the chain has gone on without it.
            drop(memory.take_unsaved(name));
            return Ok(());
        }
    };
    let Some((spent, next)) = memory.take_unsaved(name) else {
        let mut kept = claim.document().clone();
        kept.attempt = None;
        return claim.settle(kept).await.map(drop);
    };
    match claim.settle(next.clone()).await {
        Ok(_) => {
            memory.forget(name);
            tracing::info!(credential = %name, "the new token is kept now");
            Ok(())
        }
        Err(error) => {
            memory.save_later(name, spent, next);
            Err(error)
        }
    }
}
