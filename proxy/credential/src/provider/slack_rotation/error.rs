//! Why a token did not rotate.

use std::time::Duration;

use jiff::Timestamp;

/// How long a client secret or a token that Slack refused is not shown again.
const REFUSED_FOR: Duration = Duration::from_mins(1);

/// The longest that Slack's own `Retry-After` is taken at its word.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// Why a token did not rotate, as a sentence for the operator with its remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// Slack was not reached: nothing was sent.
    #[error("Slack cannot be reached: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// Slack did not answer, or not in an order it should have; it may have acted.
    #[error("Slack did not answer the refresh: {reason}")]
    Unanswered {
        /// What was seen.
        reason: String,
    },
    /// Slack limits how often it is asked.
    #[error("Slack asks to wait {seconds} s before the next refresh")]
    Limited {
        /// Its `Retry-After`.
        seconds: u64,
    },
    /// The app's id or secret is wrong.
    #[error(
        "Slack does not know the app ({code}): compare clientId and the client secret with the \
         app's Basic Information page"
    )]
    Client {
        /// Slack's word.
        code: String,
    },
    /// The refresh token or long-lived token is dead.
    #[error("{}", dead(code, *since))]
    Dead {
        /// Slack's word.
        code: String,
        /// Since when it may have been spent by a refresh whose end is not known.
        since: Option<Timestamp>,
    },
    /// Slack refuses for another reason.
    #[error("Slack refused to refresh ({code}): see Slack's page on oauth.v2.access")]
    Refused {
        /// Slack's word.
        code: String,
    },
    /// A bug.
    #[error("the refresh brought nothing; please report this")]
    Defect,
}

fn dead(code: &str, since: Option<Timestamp>) -> String {
    let how = match since {
        Some(since) => format!(
            ": it was sent at {since:.0}, and what came of it could not be kept before Slack's grace \
             period ended, or another process spends the same app's tokens"
        ),
        None => ": it was used elsewhere, or the app was removed from the workspace".to_owned(),
    };
    format!(
        "Slack no longer takes the token to refresh with ({code}){how}. Reinstall the app and put \
         its new refresh token where the credential's seed is; it is taken over without a restart"
    )
}

impl RotationError {
    /// The error that Slack named in its answer.
    pub(super) fn named(code: &str) -> Self {
        let known = code.len() <= 64 && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let code = if known { code } else { "an unreadable error" }.to_owned();
        match code.as_str() {
            "invalid_refresh_token"
            | "token_already_exchanged"
            | "invalid_token"
            | "authorization_not_found"
            | "token_revoked"
            | "account_inactive" => Self::Dead { code, since: None },
            "bad_client_secret" | "invalid_client_id" | "bad_client_id" => Self::Client { code },
            "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout" => {
                Self::Unanswered { reason: code }
            }
            "ratelimited" => Self::Limited { seconds: 30 },
            _ => Self::Refused { code },
        }
    }

    /// Whether what was sent may have been done although we do not know.
    pub(super) fn may_have_acted(&self) -> bool {
        matches!(self, Self::Unanswered { .. })
    }

    /// Whether the same token will never do again.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Dead { .. })
    }

    /// How long there is no use in asking again, whatever the token.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Limited { seconds } => Some(Duration::from_secs(*seconds).min(LONGEST_WAIT)),
            Self::Client { .. } | Self::Refused { .. } => Some(REFUSED_FOR),
            Self::Unreachable { .. }
            | Self::Unanswered { .. }
            | Self::Dead { .. }
            | Self::Defect => None,
        }
    }

    /// How long a token that is dead is taken for it.
    pub(super) fn refused_for() -> Duration {
        REFUSED_FOR
    }

    /// Says since when the dead token may have been spent.
    pub(super) fn spent(self, at: Option<Timestamp>) -> Self {
        match self {
            Self::Dead { code, .. } => Self::Dead { code, since: at },
            other => other,
        }
    }

    /// Whether it may pass without a person's help.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unanswered { .. } | Self::Limited { .. } => true,
            Self::Client { .. } | Self::Dead { .. } | Self::Refused { .. } | Self::Defect => false,
        }
    }
}
