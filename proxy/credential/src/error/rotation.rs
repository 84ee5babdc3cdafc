//! Why a token did not rotate.

use std::time::Duration;

use jiff::Timestamp;

/// How long a client secret or token that Slack refused is not sent again.
const REFUSED_FOR: Duration = Duration::from_mins(1);

/// The longest `Retry-After` of Slack that is followed.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// Why a token did not rotate, as a sentence for the operator with its remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// Slack was not reached: nothing was sent.
    #[error("Slack cannot be reached: {reason}")]
    Unreachable {
        /// The cause.
        reason: String,
    },
    /// Slack did not respond, or its response is malformed; it may have acted.
    #[error("Slack did not answer the refresh: {reason}")]
    Unanswered {
        /// What happened.
        reason: String,
    },
    /// Slack limits the rate.
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
        /// Slack's error code.
        code: String,
    },
    /// The refresh token or long-lived token is dead.
    #[error("{}", dead(code, *since))]
    Dead {
        /// Slack's error code.
        code: String,
        /// Since when an unfinished refresh may have spent it.
        since: Option<Timestamp>,
    },
    /// Slack refuses for another reason.
    #[error("Slack refused to refresh ({code}): see Slack's page on oauth.v2.access")]
    Refused {
        /// Slack's error code.
        code: String,
    },
    /// A bug.
    #[error("the refresh had no result; please report this")]
    Defect,
}

fn dead(code: &str, since: Option<Timestamp>) -> String {
    let how = match since {
        Some(since) => format!(
            ": it was sent at {since:.0}, and the result could not be stored before Slack's grace period ended, or another process spends the same app's tokens"
        ),
        None => ": it was used elsewhere, or the app was removed from the workspace".to_owned(),
    };
    format!(
        "Slack no longer accepts the refresh token ({code}){how}. Reinstall the app and put its new refresh token where the credential's seed is; the gateway reads it without a restart"
    )
}

impl RotationError {
    /// The error for Slack's error code.
    pub(crate) fn named(code: &str) -> Self {
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

    /// Whether the request may have taken effect without our knowledge.
    pub(crate) fn may_have_acted(&self) -> bool {
        matches!(self, Self::Unanswered { .. })
    }

    /// Whether the same token will never work again.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Dead { .. })
    }

    /// How long there is no point in trying again, with any token.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Limited { seconds } => Some(Duration::from_secs(*seconds).min(LONGEST_WAIT)),
            Self::Client { .. } | Self::Refused { .. } => Some(REFUSED_FOR),
            Self::Unreachable { .. }
            | Self::Unanswered { .. }
            | Self::Dead { .. }
            | Self::Defect => None,
        }
    }

    /// How long a dead token is remembered.
    pub(crate) fn refused_for() -> Duration {
        REFUSED_FOR
    }

    /// Adds since when the dead token may have been spent.
    pub(crate) fn spent(self, at: Option<Timestamp>) -> Self {
        match self {
            Self::Dead { code, .. } => Self::Dead { code, since: at },
            other => other,
        }
    }

    /// Whether it may pass by itself.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unanswered { .. } | Self::Limited { .. } => true,
            Self::Client { .. } | Self::Dead { .. } | Self::Refused { .. } | Self::Defect => false,
        }
    }
}
