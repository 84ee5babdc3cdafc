//! One pass over the newest records for everything that a page shows: causes of failures, counts of the last hour and
//! day, what was used, what became of credentials, and the latest requests that did not go through.

mod activity;

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

pub use self::activity::{Activity, HOURS, Hour, Tally};
use crate::{
    credentials::Timelines,
    reader::{Counts, Line, Reader},
    record::{Decision, Entry, Outcome},
    story,
    triage::{Blame, Options, Report, Triage, blame_of},
    usage::Usage,
};

/// The most requests that are listed one by one.
const LISTED: usize = 200;

/// Records between two looks at the time.
const LOOK_EVERY: u64 = 512;

/// What the newest records say.
#[derive(Debug)]
pub struct Survey {
    /// Until when records count; the time of the survey.
    pub now: Timestamp,
    /// Why requests failed: all causes, brief ones too.
    pub report: Report,
    /// Requests of the last hour and day.
    pub activity: Activity,
    /// What was used.
    pub usage: Usage,
    /// What became of credentials.
    pub credentials: Timelines,
    /// The latest requests that did not go through, or to which the API said no; the newest first, 200 at most.
    pub failures: Vec<Failure>,
}

/// A request that did not go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// The record's id.
    pub id: String,
    /// Whose it was; empty if that was not proven.
    pub who: String,
    /// What was asked for: `POST slack.com/api/chat.postMessage`.
    pub request: String,
    /// `refused`, `failed`, or `answered` if it went through and the API said no.
    pub outcome: &'static str,
    /// The reason code.
    pub reason: String,
    /// On whose side it is.
    pub blame: Blame,
    /// The API's status or error, if it answered.
    pub answer: Option<String>,
}

/// The time for reading was over before the end of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time for reading records was over")]
pub struct TimeOver;

impl Survey {
    /// Reads all records, however long that takes.
    pub fn whole(reader: &mut Reader, now: Timestamp) -> Self {
        let mut collected = Collected::new(now);
        reader.each(|line| collected.see(&line));
        collected.into_survey(reader.counts())
    }

    /// Reads all records. `is_over` is asked now and then whether to stop.
    ///
    /// # Errors
    /// When it says so; what was read until then is the oldest part, and is of no use.
    pub fn within(
        reader: &mut Reader,
        now: Timestamp,
        mut is_over: impl FnMut() -> bool,
    ) -> Result<Self, TimeOver> {
        let mut collected = Collected::new(now);
        let mut seen = 0_u64;
        reader.try_each(|line| {
            collected.see(&line);
            seen += 1;
            if seen.is_multiple_of(LOOK_EVERY) && is_over() {
                return Err(TimeOver);
            }
            Ok(())
        })?;
        Ok(collected.into_survey(reader.counts()))
    }
}

struct Collected {
    now: Timestamp,
    triage: Triage,
    activity: Activity,
    usage: Usage,
    credentials: Timelines,
    failures: VecDeque<Failure>,
}

impl Collected {
    fn new(now: Timestamp) -> Self {
        Self {
            now,
            triage: Triage::new(Options {
                all: true,
                ..Options::default()
            }),
            activity: Activity::until(now),
            usage: Usage::default(),
            credentials: Timelines::default(),
            failures: VecDeque::new(),
        }
    }

    fn see(&mut self, line: &Line<'_>) {
        self.triage.see(line);
        self.activity.see(line);
        self.credentials.see(line);
        if let Entry::Decision(decision) = &line.entry {
            self.usage.add(decision);
            if let Some(failure) = Failure::of(decision) {
                if self.failures.len() == LISTED {
                    self.failures.pop_front();
                }
                self.failures.push_back(failure);
            }
        }
    }

    fn into_survey(self, counts: &Counts) -> Survey {
        let mut failures = Vec::from(self.failures);
        failures.sort_by_key(|failure| std::cmp::Reverse(failure.at));
        Survey {
            now: self.now,
            report: self.triage.report(counts),
            activity: self.activity,
            usage: self.usage,
            credentials: self.credentials,
            failures,
        }
    }
}

impl Failure {
    fn of(decision: &Decision<'_>) -> Option<Self> {
        let answer = answer(decision);
        let outcome = match decision.outcome {
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Permitted | Outcome::Tunnelled if answer.is_some() => "answered",
            Outcome::Permitted | Outcome::Tunnelled | Outcome::Other => return None,
        };
        Some(Self {
            at: decision.time,
            id: decision.id.to_string(),
            who: story::who(decision),
            request: story::request(decision),
            outcome,
            reason: decision.reason.to_string(),
            blame: if outcome == "answered" {
                Blame::Code
            } else {
                blame_of(&decision.reason)
            },
            answer,
        })
    }
}

/// What the API answered, if it said no.
fn answer(decision: &Decision<'_>) -> Option<String> {
    let upstream = decision.upstream.as_ref()?;
    let status = upstream.status.filter(|status| *status >= 400);
    match (status, &upstream.api_error) {
        (None, None) => None,
        (None, Some(error)) => Some(error.to_string()),
        (Some(status), None) => Some(status.to_string()),
        (Some(status), Some(error)) => Some(format!("{status} {}", &**error)),
    }
}

/// Whether a moment is within a length of time before another.
fn is_within(at: Timestamp, now: Timestamp, length: SignedDuration) -> bool {
    now.duration_since(at) < length
}

#[cfg(test)]
mod tests;
