//! Pairs that could not be stored when Slack issued them: stored as soon as the store accepts them, with
//! or without a request for the credential, and at the latest before the process ends.

use std::{sync::Arc, time::Duration};

use countersign_config::model::ResourceName;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    ProviderContext,
    state::{ClaimOutcome, StateError},
};

/// The delays between attempts while the process runs.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The delays between attempts when it is about to end.
const LAST_PAUSE: Duration = Duration::from_millis(250);

/// The shortest time that an attempt has at the end.
const LAST_ATTEMPT: Duration = Duration::from_secs(2);

/// Retries storing a credential's pair, if there is one that is not stored, until it succeeds.
pub(crate) fn keep_soon(context: &Arc<ProviderContext>, name: &ResourceName) {
    if !context.rotations.begin_keeping(name) {
        return;
    }
    let (context, name) = (Arc::clone(context), name.clone());
    tokio::spawn(async move {
        let mut pause = FIRST_PAUSE;
        while !context.rotations.is_ending() {
            sleep(pause).await;
            match keep(&context, &name).await {
                Ok(()) => break,
                // Already reported where storing first failed.
                Err(error) => tracing::debug!(credential = %name, %error, "not stored yet"),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        context.rotations.end_keeping(&name);
    });
}

/// Stores what is not stored yet, retrying until `end`; returns what could not be stored.
pub(crate) async fn keep_before_end(context: &ProviderContext, end: Instant) {
    let end = end.max(Instant::now() + LAST_ATTEMPT);
    let unsaved = context.rotations.unsaved();
    join_all(unsaved.iter().map(|name| keep_until(context, name, end))).await;
}

async fn keep_until(context: &ProviderContext, name: &ResourceName, end: Instant) {
    let mut last = None;
    let trying = async {
        while let Err(error) = keep(context, name).await {
            last = Some(error);
            sleep(LAST_PAUSE).await;
        }
    };
    if timeout_at(end, trying).await.is_err() {
        let error = last.map_or_else(|| "it did not respond".to_owned(), |last| last.to_string());
        tracing::error!(
            credential = %name, %error,
            "the new token could not be stored before the process ended, and is lost; repair the state store and start the gateway at once, because Slack accepts the previous token once more for a short time; after that, reinstall the app and put its new refresh token where the credential's seed is"
        );
    }
}

/// Stores a pair, unless the store already has another replica's.
async fn keep(context: &ProviderContext, name: &ResourceName) -> Result<(), StateError> {
    let memory = &context.rotations;
    let _unfinished = memory.begin();
    let claim = match context
        .state
        .claim(name, |kept| memory.is_next(name, kept))
        .await?
    {
        ClaimOutcome::Ours(claim) => claim,
        ClaimOutcome::Settled(_) => {
            // A request has stored it, or the chain has continued without it.
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
            tracing::info!(credential = %name, "the new token is now stored");
            Ok(())
        }
        Err(error) => {
            memory.save_later(name, spent, next);
            Err(error)
        }
    }
}
