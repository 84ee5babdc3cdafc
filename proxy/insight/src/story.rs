//! The story behind one record: what was decided, which finding of triage it belongs to, and what would have permitted
//! it.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{
    hindsight::{Hindsight, hindsight},
    history::{History, HistoryError, Revision},
    reader::Reader,
    record::{Decision, Entry, Outcome},
    triage::{Finding, Options, Triage, explains},
};

/// One record, and what the log around it says.
#[derive(Debug, Clone, Serialize)]
pub struct Story {
    /// `countersign.story/v1`.
    pub schema: &'static str,
    /// The record as it was written.
    pub record: Value,
    /// In one sentence what happened.
    pub what: String,
    /// The cause that triage finds for it, with what changed before and what to do; `None` if nothing failed.
    pub finding: Option<Finding>,
    /// The smallest changes of the nearest rule that would permit it, for people.
    pub would_permit: Vec<String>,
    /// How the kept revisions decide it; `None` if there are none, or the record has nothing to decide.
    pub hindsight: Option<Hindsight>,
}

impl Story {
    /// Adds what the revisions say that were in force. `current` is what is in force now; without it, it is the newest
    /// one that is kept.
    ///
    /// # Errors
    /// When a kept revision cannot be read.
    pub fn look_back(
        &mut self,
        history: &History,
        current: Option<Revision>,
        now: Timestamp,
    ) -> Result<(), HistoryError> {
        let record = self.record.to_string();
        // It was read from a record, so it is one.
        if let Ok(decision) = serde_json::from_str::<Decision<'_>>(&record) {
            self.hindsight = Some(hindsight(&decision, history, current, now)?);
        }
        Ok(())
    }
}

/// Finds a record by its id, and reads the log around it; `None` if no line has the id.
pub fn story(reader: &mut Reader, id: &str) -> Option<Story> {
    let mut triage = Triage::new(Options {
        all: true,
        ..Options::default()
    });
    let mut found: Option<Story> = None;
    let mut facts = None;
    reader.each(|line| {
        triage.see(&line);
        if let Entry::Decision(decision) = &line.entry
            && *decision.id == *id
            && found.is_none()
        {
            found = Some(Story {
                schema: "countersign.story/v1",
                record: serde_json::from_slice(line.json).unwrap_or_default(),
                what: sentence(decision),
                finding: None,
                would_permit: would_permit(decision),
                hindsight: None,
            });
            let client = decision
                .caller
                .as_ref()
                .and_then(|caller| caller.client.as_deref());
            facts = Some((
                who(decision),
                client.unwrap_or_default().to_owned(),
                decision.time,
                decision.reason.to_string(),
            ));
        }
    });
    let mut story = found?;
    let (who, client, time, reason) = facts?;
    let report = triage.report(reader.counts());
    let all = report.findings.into_iter().chain(report.api_errors);
    let mut covering: Vec<_> = all
        .filter(|finding| finding.first <= time && time <= finding.last)
        .filter(|finding| explains(finding, &who, &client, &reason))
        .collect();
    covering.sort_by_key(|finding| finding.reason != reason);
    story.finding = covering.into_iter().next();
    Some(story)
}

/// Whose the request was; of a refused token, whose it says it is.
fn who(decision: &Decision<'_>) -> String {
    let workload = decision
        .workload
        .as_ref()
        .map(|workload| workload.name.to_string());
    let caller = decision.caller.as_ref();
    let subject = || {
        caller
            .and_then(|caller| caller.subject.as_ref())
            .map(ToString::to_string)
    };
    let token = || {
        let token = decision.refused_token.as_ref()?;
        let (namespace, account) = (token.namespace.as_ref()?, token.service_account.as_ref()?);
        Some(format!("{namespace}/{account}"))
    };
    workload.or_else(subject).or_else(token).unwrap_or_default()
}

fn sentence(decision: &Decision<'_>) -> String {
    let who = who(decision);
    let whom = match &*who {
        "" => "a client that proved nothing",
        who => who,
    };
    let what = decision.target.as_ref().map_or_else(
        || "a connection".to_owned(),
        |target| {
            let method = target.method.as_deref().unwrap_or("CONNECT");
            let path = target.path.as_deref().unwrap_or_default();
            format!(
                "{method} {}{path}",
                target.authority.trim_end_matches(":443")
            )
        },
    );
    let policy = decision.policy.as_ref().map(|policy| {
        let rule = policy
            .rule
            .map(|rule| format!(" rule {rule}"))
            .unwrap_or_default();
        let revision = policy.revision.as_deref().unwrap_or("unknown");
        format!(" by {}{rule} of revision {revision}", policy.name)
    });
    let policy = policy.unwrap_or_default();
    let reason = &decision.reason;
    let blame = decision.blame.as_deref().unwrap_or("nobody");
    let at = decision.time;
    match decision.outcome {
        Outcome::Permitted => format!("At {at} {what} of {whom} was permitted{policy}"),
        Outcome::Tunnelled => format!("At {at} {what} of {whom} was tunnelled"),
        Outcome::Refused => {
            format!("At {at} {what} of {whom} was refused: {reason}, which blames the {blame}")
        }
        Outcome::Failed => {
            format!(
                "At {at} {what} of {whom} was permitted{policy} and failed: {reason}, which blames the {blame}"
            )
        }
        Outcome::Other => format!("At {at} {what} of {whom} had an outcome of a later version"),
    }
}

/// From the nearest rule: what it would have to say.
fn would_permit(decision: &Decision<'_>) -> Vec<String> {
    let Some(nearest) = &decision.nearest else {
        return Vec::new();
    };
    let place = match nearest.rule {
        Some(rule) => format!("AccessPolicy {}, allow rule {rule}", nearest.policy),
        None => format!("AccessPolicy {}", nearest.policy),
    };
    let mismatches = nearest.mismatches.iter();
    mismatches
        .map(|one| {
            format!(
                "{place}: `{}` is {}, and would have to cover {}",
                one.what, one.expected, one.actual
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(time: &str, id: &str, refused: bool) -> String {
        let (outcome, reason) = if refused {
            ("refused", "request_not_allowed")
        } else {
            ("permitted", "permitted")
        };
        let nearest = if refused {
            r#","nearest":{"policy":"qa/posts","rule":0,"mismatches":[{"what":"paths","expected":"/api/chat.postMesage","actual":"/api/chat.postMessage"}]}"#
        } else {
            ""
        };
        format!(
            r#"{{"schema":"countersign.decision/v1","time":"{time}","id":"{id}","outcome":"{outcome}","reason":"{reason}","workload":{{"name":"qa/nightly","owner":"qa@example.com"}},"target":{{"name":"slack","authority":"slack.com:443","method":"POST","path":"/api/chat.postMessage"}}{nearest}}}"#
        ) + "\n"
    }

    #[test]
    fn a_refusal_that_a_change_caused_names_that_change() {
        let log = line("2026-11-22T06:00:00Z", "works", false)
            + r#"{"schema":"countersign.event/v1","time":"2026-11-22T14:00:00Z","event":"reloaded","revision":"41d07e","previous_revision":"9f2c1a","changes":[{"change":"changed","kind":"AccessPolicy","name":"qa/posts"}],"changed":1}"#
            + "\n"
            + &line("2026-11-23T06:00:00Z", "refused", true);
        let tell = |id: &str| {
            story(
                &mut Reader::stream("-", std::io::Cursor::new(log.clone())),
                id,
            )
        };
        let told = tell("refused").unwrap();
        assert!(
            told.what
                .contains("POST slack.com/api/chat.postMessage of qa/nightly was refused"),
            "{}",
            told.what
        );
        let finding = told.finding.unwrap();
        assert_eq!(finding.changes[0].revision.as_deref(), Some("41d07e"));
        assert!(
            finding.action.contains("AccessPolicy qa/posts"),
            "{finding:#?}"
        );
        assert!(told.would_permit[0].contains("would have to cover /api/chat.postMessage"));
        let fine = tell("works").unwrap();
        assert!(fine.finding.is_none() && fine.would_permit.is_empty());
        assert!(tell("nobody").is_none());
    }
}
