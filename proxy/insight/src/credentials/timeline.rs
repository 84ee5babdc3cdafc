//! What became of each credential: its values, rejections and recoveries, as records say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::{
    reader::Line,
    record::{Credential, Decision, Entry, Outcome},
    triage::is_of_credential,
};

/// The most credentials that are followed.
const FOLLOWED: usize = 2_000;

/// The most moments of one credential that are kept: the latest.
const MOMENTS: usize = 100;

/// The most workloads of one credential that are named.
const NAMED: usize = 100;

/// What the records say of all credentials.
#[derive(Debug, Default)]
pub struct Timelines(BTreeMap<String, Timeline>);

/// What the records say of one credential.
#[derive(Debug, Default)]
pub struct Timeline {
    /// Requests that carried it.
    pub uses: u64,
    /// The first of them.
    pub first: Option<Timestamp>,
    /// The last of them.
    pub last: Option<Timestamp>,
    /// Whose requests; a hundred at most.
    pub workloads: BTreeSet<String>,
    /// By gateway, which count values each for themselves.
    generations: BTreeMap<String, u64>,
    is_failing: bool,
    moments: VecDeque<Moment>,
}

/// Something that happened to a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// When it was, or began.
    pub at: Timestamp,
    /// Until when the same went on.
    pub until: Timestamp,
    /// What.
    pub kind: MomentKind,
    /// The same in words.
    pub what: String,
    /// How many requests say so.
    pub count: u64,
    /// The first record that says so.
    pub id: String,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MomentKind {
    /// Another value was obtained.
    Obtained,
    /// Requests failed for it.
    Failed,
    /// It worked again.
    Recovered,
}

impl MomentKind {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Obtained => "new value",
            Self::Failed => "failed",
            Self::Recovered => "works again",
        }
    }
}

impl Timelines {
    /// Takes one record into account.
    pub fn see(&mut self, line: &Line<'_>) {
        let Entry::Decision(decision) = &line.entry else {
            return;
        };
        let Some(credential) = &decision.credential else {
            return;
        };
        if !self.0.contains_key(&*credential.name) {
            if self.0.len() >= FOLLOWED {
                return;
            }
            self.0
                .insert(credential.name.to_string(), Timeline::default());
        }
        if let Some(timeline) = self.0.get_mut(&*credential.name) {
            timeline.see(decision, credential, line.pod.unwrap_or(line.file));
        }
    }

    /// What became of one.
    pub fn of(&self, name: &str) -> Option<&Timeline> {
        self.0.get(name)
    }
}

impl Timeline {
    /// What happened, the latest first; a hundred moments at most.
    pub fn moments(&self) -> Vec<&Moment> {
        let mut moments: Vec<_> = self.moments.iter().rev().collect();
        moments.sort_by_key(|moment| std::cmp::Reverse(moment.at));
        moments
    }

    fn see(&mut self, decision: &Decision<'_>, credential: &Credential<'_>, source: &str) {
        let time = decision.time;
        self.uses += 1;
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
        if let Some(workload) = &decision.workload
            && self.workloads.len() < NAMED
            && !self.workloads.contains(&*workload.name)
        {
            self.workloads.insert(workload.name.to_string());
        }
        self.generation(decision, credential, source);
        let failed = is_of_credential(&decision.reason);
        if failed {
            self.is_failing = true;
            let said = credential.rejected.as_ref();
            let said = said.and_then(|rejected| rejected.api_error.as_deref());
            let said = said.map(|said| format!(", the API said {said}"));
            let what = format!("{}{}", &*decision.reason, said.unwrap_or_default());
            self.push(decision, MomentKind::Failed, time, what);
        } else if self.is_failing && decision.outcome == Outcome::Permitted {
            self.is_failing = false;
            let what = "a request went through with it".to_owned();
            self.push(decision, MomentKind::Recovered, time, what);
        }
    }

    fn generation(&mut self, decision: &Decision<'_>, credential: &Credential<'_>, source: &str) {
        let Some(generation) = credential.generation else {
            return;
        };
        let before = self.generations.insert(source.to_owned(), generation);
        if before == Some(generation) {
            return;
        }
        let age = i64::try_from(credential.age_s.unwrap_or_default()).unwrap_or_default();
        let at = decision.time.saturating_sub(SignedDuration::from_secs(age));
        let life = credential
            .expires_in_s
            .map(|left| format!(", valid for {} more", super::health::length(left)));
        let what = format!(
            "value {generation} since the gateway's start{}",
            life.unwrap_or_default()
        );
        self.push(
            decision,
            MomentKind::Obtained,
            at.unwrap_or(decision.time),
            what,
        );
    }

    fn push(&mut self, decision: &Decision<'_>, kind: MomentKind, at: Timestamp, what: String) {
        if let Some(last) = self.moments.back_mut()
            && last.kind == kind
            && last.what == what
        {
            last.until = last.until.max(at);
            last.count += 1;
            return;
        }
        if self.moments.len() == MOMENTS {
            self.moments.pop_front();
        }
        self.moments.push_back(Moment {
            at,
            until: at,
            kind,
            what,
            count: 1,
            id: decision.id.to_string(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Reader;

    fn line(minute: u32, generation: u64, reason: &str) -> String {
        let outcome = if reason == "permitted" {
            "permitted"
        } else {
            "failed"
        };
        format!(
            r#"{{"schema":"countersign.decision/v1","time":"2026-11-23T05:{minute:02}:00Z","id":"id-{minute}","outcome":"{outcome}","reason":"{reason}","workload":{{"name":"qa/nightly"}},"credential":{{"name":"qa/slack-bot","generation":{generation},"age_s":30}}}}"#
        ) + "\n"
    }

    #[test]
    fn values_failures_and_recoveries_are_told_in_their_order() {
        let log = [
            line(0, 1, "permitted"),
            line(1, 1, "credential_rejected"),
            line(2, 1, "credential_rejected"),
            line(5, 2, "permitted"),
        ]
        .concat();
        let mut all = Timelines::default();
        Reader::stream("-", std::io::Cursor::new(log)).each(|line| all.see(&line));
        let one = all.of("qa/slack-bot").unwrap();
        let told: Vec<_> = one
            .moments()
            .iter()
            .map(|moment| (moment.kind, moment.count, &*moment.id))
            .collect();
        assert_eq!(
            told,
            [
                (MomentKind::Recovered, 1, "id-5"),
                (MomentKind::Obtained, 1, "id-5"),
                (MomentKind::Failed, 2, "id-1"),
                (MomentKind::Obtained, 1, "id-0"),
            ]
        );
        assert_eq!(one.uses, 4);
        assert!(one.workloads.contains("qa/nightly"));
        assert!(all.of("qa/other").is_none());
    }
}
