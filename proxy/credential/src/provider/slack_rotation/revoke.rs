//! Revokes an access token before it expires.

use countersign_config::model::{Credential, Provider};
use countersign_core::secret::Secret;

use super::call;
use crate::{
    CredentialError, ProviderContext,
    state::{ClaimOutcome, Fingerprint},
};

/// Whether it is a user token, by its prefix. `auth.revoke` with a user token revokes it; with a bot
/// token it deactivates the bot user, which then is in no channel any more.
pub(super) fn is_a_users(token: &Secret) -> bool {
    let token = token.expose();
    token.starts_with("xoxe.xoxp-") || token.starts_with("xoxp-")
}

/// Revokes an access token at Slack, because no one uses it any more. The refresh token stays, so the
/// next request gets another access token. The store tells the other replicas; one that still uses the
/// token gets an error from Slack and reads the store.
///
/// The store forgets the token first: a crash in between leaves a token that is valid until it expires
/// and that no one has.
pub(crate) async fn revoke(
    credential: &Credential,
    token: &Secret,
    context: &ProviderContext,
) -> Result<(), CredentialError> {
    let (true, Provider::SlackRotation { host, .. }) = (is_a_users(token), &credential.provider)
    else {
        return Ok(());
    };
    let _unfinished = context.rotations.begin();
    let spends = Fingerprint::of("access token", token);
    let turn = context.state.claim(&credential.name, |kept| {
        let access = kept.pair.as_ref()?.access.as_ref()?;
        (access.token == *token).then(|| spends.clone())
    });
    if let ClaimOutcome::Ours(claim) = turn.await? {
        let mut kept = claim.document().clone();
        kept.attempt = None;
        if let Some(pair) = &mut kept.pair {
            pair.access = None;
        }
        claim.settle(kept).await?;
    }
    // Also if the store already has another: then it is one of two valid tokens.
    let slack = call::Slack {
        http: &context.http,
        host,
        credential: &credential.name,
    };
    Ok(call::revoke(slack, token).await?)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::rotating_user("xoxe.xoxp-1-Mi0yLTEy", true)]
    #[case::user("xoxp-123-456-789-abc", true)]
    #[case::rotating_bot("xoxe.xoxb-1-Mi0yLTEy", false)]
    #[case::bot("xoxb-123-456-abc", false)]
    #[case::refresh("xoxe-1-My0xLTEy", false)]
    #[case::app("xapp-1-A0-1-abc", false)]
    #[case::other_case("XOXP-1", false)]
    #[case::hidden_within("xoxb-xoxp-1", false)]
    #[case::empty("", false)]
    fn only_a_users_token_is_ended(#[case] token: &str, #[case] ended: bool) {
        assert_eq!(is_a_users(&Secret::new(token.into())), ended);
    }
}
