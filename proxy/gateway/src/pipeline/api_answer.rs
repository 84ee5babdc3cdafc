//! What the status of an API's response means for the record, where nothing else explains it: the response
//! itself is passed on.

use std::fmt;

use countersign_authorize::AccessControl;
use countersign_config::{model::ResourceName, policy::PolicySet};
use countersign_core::reason::Reason;
use countersign_credential::Issued;
use http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER};

/// The most workloads that a sentence names.
const MOST_NAMED: usize = 5;

/// The status of a response, and when it says that a retry may succeed.
#[derive(Debug)]
pub(crate) struct AnswerStatus {
    status: StatusCode,
    retry_after: Option<HeaderValue>,
}

impl AnswerStatus {
    /// That of a response.
    pub(crate) fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let says_when = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        Self {
            status,
            retry_after: headers.get(RETRY_AFTER).filter(|_| says_when).cloned(),
        }
    }

    /// Why the record of such a response tells a failure, if it does. A 401 counts only if the gateway sent a
    /// credential; `issued` is what it sent.
    pub(crate) fn failure(&self, issued: Option<&Issued>) -> Option<Reason> {
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => Some(Reason::ApiRateLimited),
            StatusCode::UNAUTHORIZED if issued.is_some() => Some(Reason::CredentialRejected),
            status if status.is_server_error() => Some(Reason::UpstreamError),
            _ => None,
        }
    }

    /// The operator's sentence: `who` answered so, with this error code.
    pub(super) fn tell(
        &self,
        who: &ResourceName,
        reason: Reason,
        code: Option<&str>,
        issued: Option<&Issued>,
        access: &AccessControl,
    ) -> String {
        let mut detail = format!("{who} answered {self}");
        if let Some(code) = code {
            detail.extend([" with `", code, "`"]);
        }
        if let Some(issued) = issued {
            let name = issued.name();
            detail = match reason {
                Reason::ApiRateLimited => {
                    let snapshot = access.snapshots.load_full();
                    format!(
                        "{detail} to {name}, {}",
                        Sharers::of(name, snapshot.policies())
                    )
                }
                Reason::CredentialRejected => format!(
                    "{detail} to {name} (generation {}), and no authFailure of the target says what that \
                     means, so that the credential was not renewed",
                    issued.generation()
                ),
                _ => detail,
            };
        }
        format!("{detail}. {}", reason.facts().remedy)
    }
}

impl fmt::Display for AnswerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        match self.retry_after.as_ref().map(HeaderValue::to_str) {
            Some(Ok(text)) => write!(f, " (Retry-After: {})", &text[..text.len().min(40)]),
            Some(Err(_)) | None => Ok(()),
        }
    }
}

/// The workloads that share a credential.
pub(super) struct Sharers<'p> {
    /// With their owners, each once.
    workloads: Vec<(&'p ResourceName, &'p str)>,
}

impl<'p> Sharers<'p> {
    /// Those whose policies attach this credential.
    pub(super) fn of(credential: &ResourceName, policies: &'p PolicySet) -> Self {
        let policies = policies.policies().iter().filter(|policy| {
            let mut credentials = policy.credentials.iter();
            credentials.any(|(_, attached)| attached.name == *credential)
        });
        let workloads = policies.flat_map(|policy| &policy.workloads);
        let mut workloads: Vec<_> = workloads
            .map(|workload| (&workload.name, &*workload.owner))
            .collect();
        workloads.sort();
        workloads.dedup();
        Self { workloads }
    }
}

impl fmt::Display for Sharers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.workloads.len() < 2 {
            return f.write_str("which no other workload uses");
        }
        write!(f, "which {} workloads share: ", self.workloads.len())?;
        for (index, (name, owner)) in self.workloads.iter().take(MOST_NAMED).enumerate() {
            let before = if index > 0 { ", " } else { "" };
            write!(f, "{before}{name} ({owner})")?;
        }
        match self.workloads.len().saturating_sub(MOST_NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
