//! Ending an access token before its time.

use countersign_config::model::{Credential, Provider};
use countersign_core::secret::Secret;

use super::call;
use crate::{
    CredentialError, Tools,
    state::{Fingerprint, Turn},
};

/// Whether a token is a user's, by what it begins with. `auth.revoke` ends such a one; called with a
/// bot's it deactivates the bot user, which then is in no channel any more.
pub(super) fn is_a_users(token: &Secret) -> bool {
    let token = token.expose();
    token.starts_with("xoxe.xoxp-") || token.starts_with("xoxp-")
}

/// Ends an access token at Slack, because nobody uses it any more. The refresh token stays, so that
/// the next request gets another access token. The other replicas are told by the store; one that
/// still uses the token learns from Slack that it ended, and looks into the store.
///
/// The store forgets the token first: a crash in between leaves one that lives until its end and
/// that nobody has.
pub(crate) async fn revoke(
    credential: &Credential,
    token: &Secret,
    tools: &Tools,
) -> Result<(), CredentialError> {
    let (true, Provider::SlackRotation { host, .. }) = (is_a_users(token), &credential.provider)
    else {
        return Ok(());
    };
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
    let slack = call::Slack {
        http: &tools.http,
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
