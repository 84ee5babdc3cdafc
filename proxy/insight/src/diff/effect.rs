//! What becomes of a request, as far as two revisions are compared.

use countersign_config::{
    model::{Attach, Credential, Mode, Rate, Target},
    policy::{Decision, DenyReason},
};

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// No target in use has its host and port; the gateway's `unmatched` setting decides.
    Unmatched,
    /// It is refused.
    Refused,
    /// It is sent, though an enforced policy would refuse it: a policy with `mode: observe` lets it pass.
    Observed(Sent),
    /// It is sent.
    Permitted(Sent),
}

/// How a request is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sent {
    /// The credential's name; `None` sends none.
    pub credential: Option<String>,
    /// Where the credential comes from and where on the request it goes, to compare.
    pub(crate) how: String,
    /// Whether the connection is tunnelled, so that what is in it is not read.
    pub tunnelled: bool,
}

impl Sent {
    pub(crate) fn of(target: &Target, credential: Option<(&Attach, &Credential)>) -> Self {
        Self {
            credential: credential.map(|(_, credential)| credential.name.to_string()),
            how: credential.map_or_else(String::new, |(attach, credential)| {
                format!(
                    "{:?} {} {:?}",
                    credential.provider, credential.target, attach.place
                )
            }),
            tunnelled: !target.intercept,
        }
    }
}

impl Effect {
    /// The effect of a decision.
    pub fn of(decision: &Decision<'_>) -> Self {
        match decision {
            Decision::Unmatched => Self::Unmatched,
            Decision::Deny(_) => Self::Refused,
            Decision::Permit(grant) => {
                let credential = grant
                    .credential()
                    .map(|(attach, credential)| (attach, &**credential));
                let sent = Sent::of(grant.target(), credential);
                match (grant.mode(), grant.would_deny()) {
                    (Mode::Observe, Some(_)) => Self::Observed(sent),
                    (Mode::Observe, None) | (Mode::Enforce, _) => Self::Permitted(sent),
                }
            }
        }
    }

    /// How it is sent, if it is.
    pub fn sent(&self) -> Option<&Sent> {
        match self {
            Self::Permitted(sent) | Self::Observed(sent) => Some(sent),
            Self::Refused | Self::Unmatched => None,
        }
    }

    /// In one word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unmatched => "unmatched",
            Self::Refused => "refused",
            Self::Observed(_) => "observed",
            Self::Permitted(_) => "permitted",
        }
    }
}

/// An effect under one revision, and what brings it about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Outcome {
    /// What becomes of the request.
    pub effect: Effect,
    /// The policy that permits or observes it.
    pub policy: Option<String>,
    /// The index of the rule that matches.
    pub rule: Option<usize>,
    /// If the example is refused: why.
    pub reason: Option<DenyReasonKey>,
    /// How many requests in how many seconds the policy permits.
    pub rate: Option<(u32, u64)>,
}

/// A reason of a denial, in order to sort and to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DenyReasonKey(&'static str);

impl DenyReasonKey {
    /// The reason's stable name.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl From<DenyReason> for DenyReasonKey {
    fn from(reason: DenyReason) -> Self {
        Self(reason.as_str())
    }
}

impl Outcome {
    pub(crate) fn unmatched() -> Self {
        Self {
            effect: Effect::Unmatched,
            policy: None,
            rule: None,
            reason: None,
            rate: None,
        }
    }

    pub(crate) fn refused() -> Self {
        Self {
            effect: Effect::Refused,
            ..Self::unmatched()
        }
    }

    /// A rate such as `60/m`.
    pub fn rate_text(&self) -> String {
        self.rate.map_or_else(
            || "no rate".to_owned(),
            |(requests, seconds)| match seconds {
                1 => format!("{requests}/s"),
                60 => format!("{requests}/m"),
                3600 => format!("{requests}/h"),
                _ => format!("{requests} in {seconds} s"),
            },
        )
    }
}

pub(crate) fn rate(rate: Rate) -> (u32, u64) {
    (rate.requests.get(), rate.period.as_secs())
}
