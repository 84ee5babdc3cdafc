//! Ending an access token before its time.

use countersign_config::model::Credential;

use super::call;
use crate::{
    credential::{
        CredentialError, Tools,
        state::{Fingerprint, Turn},
    },
    secret::Secret,
};

/// Ends an access token at Slack, because nobody uses it any more. The refresh token stays, so that
/// the next request gets another access token. The other replicas are told by the store; one that
/// still uses the token learns from Slack that it ended, and looks into the store.
///
/// The store forgets the token first: a crash in between leaves one that lives until its end and
/// that nobody has.
pub(in crate::credential) async fn revoke(
    credential: &Credential,
    token: &Secret,
    tools: &Tools,
) -> Result<(), CredentialError> {
    let _unfinished = tools.rotations.begin();
    let spends = Fingerprint::of("access token", token);
    let turn = tools.state.turn(&credential.name, |kept| {
        let access = kept.pair.as_ref()?.access.as_ref()?;
        (access.token == *token).then(|| spends.clone())
    });
    if let Turn::Ours(claim) = turn.await? {
        let mut kept = claim.document().clone();
        kept.attempt = None;
        if let Some(pair) = &mut kept.pair {
            pair.access = None;
        }
        claim.settle(kept).await?;
    }
    // Also if the store has another already: then it is one of two that live.
    Ok(call::revoke(&tools.http, &credential.name, token).await?)
}
