//! The story behind one record: what was decided, which finding of triage it belongs to, and what would have permitted
//! it.

mod steps;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

pub use self::steps::{Step, StepState};

use crate::{
    hindsight::{Hindsight, hindsight},
    history::{History, HistoryError, Revision},
    reader::Reader,
    record::{Decision, Entry, Outcome},
    triage::{Finding, Options, Report, Triage, explains},
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
    /// The story of a record, with what triage found in the log around it; `None` if this is no record of a request.
    pub fn of_record(record: &[u8], report: &Report) -> Option<Self> {
        let decision: Decision<'_> = serde_json::from_slice(record).ok()?;
        let who = who(&decision);
        let caller = decision.caller.as_ref();
        let client = caller.and_then(|caller| caller.client.as_deref());
        let client = client.unwrap_or_default();
        let (time, reason) = (decision.time, &*decision.reason);
        let all = report.findings.iter().chain(&report.api_errors);
        let covering = all
            .filter(|finding| finding.first <= time && time <= finding.last)
            .filter(|finding| explains(finding, &who, client, reason));
        Some(Self {
            schema: "countersign.story/v1",
            record: serde_json::from_slice(record).unwrap_or_default(),
            what: sentence(&decision),
            finding: covering.min_by_key(|one| one.reason != reason).cloned(),
            would_permit: would_permit(&decision),
            hindsight: None,
        })
    }

    /// The request step by step.
    pub fn steps(&self) -> Vec<Step> {
        let record = self.record.to_string();
        // It was read from a record, so it is one.
        let decision = serde_json::from_str::<Decision<'_>>(&record);
        decision.map_or_else(|_| Vec::new(), |decision| steps::steps(&decision))
    }

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
    let mut found: Option<Vec<u8>> = None;
    reader.each(|line| {
        triage.see(&line);
        if let Entry::Decision(decision) = &line.entry
            && *decision.id == *id
            && found.is_none()
        {
            found = Some(line.json.to_owned());
        }
    });
    Story::of_record(&found?, &triage.report(reader.counts()))
}

/// Whose the request was; of a refused token, whose it says it is.
pub(crate) fn who(decision: &Decision<'_>) -> String {
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

/// What was asked for: `POST slack.com/api/chat.postMessage`.
pub(crate) fn request(decision: &Decision<'_>) -> String {
    decision.target.as_ref().map_or_else(
        || "a connection".to_owned(),
        |target| {
            let method = target.method.as_deref().unwrap_or("CONNECT");
            let path = target.path.as_deref().unwrap_or_default();
            format!(
                "{method} {}{path}",
                target.authority.trim_end_matches(":443")
            )
        },
    )
}

fn sentence(decision: &Decision<'_>) -> String {
    let who = who(decision);
    let whom = match &*who {
        "" => "a client that proved nothing",
        who => who,
    };
    let what = request(decision);
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
