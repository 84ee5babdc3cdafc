//! Since when somebody may make a request, and who approved it, from the kept revisions.

use jiff::Timestamp;
use serde::Serialize;

use super::{Grant, who_can};
use crate::{
    history::{History, HistoryError},
    request::Asked,
    usage::Usage,
};

/// Since when a grant holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Since {
    /// The revision.
    pub revision: String,
    /// When it came into force.
    pub at: Timestamp,
    /// Whether it may be older: it is in the oldest revision that is kept.
    pub or_earlier: bool,
    /// What its policy said of its approval since then; the first one first.
    pub approvals: Vec<Approved>,
}

/// An approval, and the revision that first had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Approved {
    /// The revision.
    pub revision: String,
    /// When it came into force.
    pub at: Timestamp,
    /// Who approved it.
    pub by: Option<String>,
    /// Where that is written.
    pub ticket: Option<String>,
}

impl Since {
    pub(super) fn text(&self) -> String {
        let Self { revision, at, .. } = self;
        if self.or_earlier {
            format!("revision {revision} of {at} or earlier, the oldest that is kept")
        } else {
            format!("revision {revision} of {at}")
        }
    }
}

impl Approved {
    pub(super) fn text(&self) -> String {
        let texts = [self.by.as_deref(), self.ticket.as_deref()];
        let texts: Vec<&str> = texts.into_iter().flatten().collect();
        let who = if texts.is_empty() {
            "nobody is named".to_owned()
        } else {
            texts.join(", ")
        };
        format!("{who} (revision {} of {})", self.revision, self.at)
    }
}

/// Goes back through the revisions until none of the grants is left.
pub(super) fn look_back(
    grants: &mut [Grant],
    history: &History,
    asked: &Asked,
) -> Result<(), HistoryError> {
    let mut open: Vec<usize> = (0..grants.len()).collect();
    let usage = Usage::default();
    for (place, head) in history.heads().iter().enumerate().rev() {
        if open.is_empty() {
            break;
        }
        let revision = history.revision(place)?;
        let then = who_can(&revision.loaded.policies, asked, &usage, head.since);
        open.retain(|index| {
            let grant = &mut grants[*index];
            let same = then.grants.iter().find(|then| {
                then.workload.name == grant.workload.name && then.policy.name == grant.policy.name
            });
            let Some(same) = same else {
                return false;
            };
            let since = grant.since.get_or_insert_with(|| Since {
                revision: String::new(),
                at: head.since,
                or_earlier: false,
                approvals: Vec::new(),
            });
            since.revision.clone_from(&head.revision);
            since.at = head.since;
            since.or_earlier = place == 0;
            let approval = Approved {
                revision: head.revision.clone(),
                at: head.since,
                by: same.policy.approval.by.clone(),
                ticket: same.policy.approval.ticket.clone(),
            };
            match since.approvals.last_mut() {
                // Going back, the same approval is found at its first revision last.
                Some(last) if (&last.by, &last.ticket) == (&approval.by, &approval.ticket) => {
                    *last = approval;
                }
                _ => since.approvals.push(approval),
            }
            true
        });
    }
    for grant in grants {
        if let Some(since) = &mut grant.since {
            since.approvals.reverse();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
