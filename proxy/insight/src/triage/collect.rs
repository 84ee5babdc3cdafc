//! One pass over the records: what worked when, what failed for which cause, and what changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::{
    Options,
    causes::{self, Meaning, Scope},
    changes::Changes,
    episode::{AFFECTED, Cause, Failure, Sample},
    scope::{self, Facts},
    shape,
    timeline::Timeline,
};
use crate::{
    reader::Line,
    record::{Decision, Entry, Outcome},
};

/// The most things of a kind that are told apart; what comes later counts as one.
const MOST: usize = 20_000;

/// Everything that the records of some time say.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// What went through, by what it concerns: see the functions in [`key`].
    pub(super) worked: HashMap<String, Timeline>,
    /// The credential that a workload's requests to an authority carried last. A record has none if no value could
    /// be obtained.
    pub(super) carried: HashMap<String, String>,
    /// All requests by credential and workload.
    pub(super) sent: HashMap<String, BTreeMap<String, Timeline>>,
    pub(super) causes: HashMap<String, Cause>,
    pub(super) changes: Changes,
    pub(super) owners: BTreeMap<String, String>,
    /// The workload of a subject.
    pub(super) subjects: HashMap<String, String>,
    /// Whose an address was last.
    pub(super) addresses: HashMap<String, (String, Timestamp)>,
    pub(super) sources: BTreeSet<String>,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
    pub(super) decisions: u64,
    pub(super) permitted: u64,
    /// Refusals that have no line of their own.
    pub(super) summarized: u64,
    /// Records that were lost.
    pub(super) dropped: u64,
    scratch: String,
}

impl Collected {
    pub(super) fn see(&mut self, line: &Line<'_>, options: &Options) {
        let time = line.entry.time();
        if options.since.is_some_and(|since| time < since) {
            return;
        }
        let source = line.pod.unwrap_or_else(|| family(line.file));
        match &line.entry {
            Entry::Decision(decision) => self.decision(decision, source, options),
            Entry::Event(event) => {
                self.horizon(time);
                self.changes.event(event, source);
            }
            Entry::Summary(summary) => {
                self.horizon(time);
                self.summarized += summary.count;
                self.summary(summary, source, options);
            }
            Entry::Dropped(dropped) => self.dropped += dropped.count,
            Entry::Shed(_) => {}
        }
    }

    fn horizon(&mut self, time: Timestamp) {
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
    }

    fn decision(&mut self, decision: &Decision<'_>, source: &str, options: &Options) {
        self.horizon(decision.time);
        let workload = decision.workload.as_ref().map(|workload| &*workload.name);
        let subject = decision
            .caller
            .as_ref()
            .and_then(|caller| caller.subject.as_deref());
        // A connection that failed before its first request names no workload.
        let unnamed = subject.filter(|_| workload.is_none());
        let known = unnamed.and_then(|subject| self.subjects.get(subject).cloned());
        let who = workload
            .or(known.as_deref())
            .or(subject)
            .unwrap_or_default();
        self.learn(decision, who, source);
        let token = self.of_token(decision).filter(|_| who.is_empty());
        let who = token.as_deref().unwrap_or(who);
        if !options.concerns(decision, who) {
            return;
        }
        self.decisions += 1;
        let worked = matches!(decision.outcome, Outcome::Permitted | Outcome::Tunnelled);
        let upstream = decision.upstream.as_ref();
        let said_no = upstream.is_some_and(|upstream| {
            upstream.api_error.is_some() || upstream.status.is_some_and(|status| status >= 400)
        });
        self.permitted += u64::from(worked);
        if !worked {
            self.failed(decision, who, source, causes::of(&decision.reason));
        } else if said_no {
            self.failed(decision, who, source, &causes::API_SAID_NO);
        }
    }

    /// What is known even from records that are not asked for: it is what failures are compared with.
    fn learn(&mut self, decision: &Decision<'_>, who: &str, source: &str) {
        let time = decision.time;
        if !self.sources.contains(source) && self.sources.len() < MOST {
            self.sources.insert(source.to_owned());
        }
        if let Some(workload) = &decision.workload
            && let Some(owner) = &workload.owner
            && self
                .owners
                .get(&*workload.name)
                .is_none_or(|known| **known != **owner)
            && self.owners.len() < MOST
        {
            self.owners
                .insert(workload.name.to_string(), owner.to_string());
        }
        self.changes.decision(decision, who, source);
        self.address(decision, who);
        if let (Some(workload), Some(caller)) = (&decision.workload, &decision.caller)
            && let Some(subject) = &caller.subject
            && !self.subjects.contains_key(&**subject)
            && self.subjects.len() < MOST
        {
            self.subjects
                .insert(subject.to_string(), workload.name.to_string());
        }
        if let Some(credential) = &decision.credential {
            note_sent(&mut self.sent, &credential.name, who, time);
            self.carries(&credential.name, decision, who);
        }
        if !matches!(decision.outcome, Outcome::Permitted | Outcome::Tunnelled) {
            return;
        }
        let authority = decision
            .target
            .as_ref()
            .map_or("", |target| &*target.authority);
        let credential = decision
            .credential
            .as_ref()
            .map(|credential| &*credential.name);
        let keys: [(&str, &[&str]); 5] = [
            ("w", &[who]),
            ("a", &[authority]),
            ("t", &[who, authority]),
            ("s", &[source]),
            ("c", &[credential.unwrap_or_default()]),
        ];
        for (kind, parts) in keys {
            if parts[0].is_empty() {
                continue;
            }
            self.scratch.clear();
            self.scratch.push_str(kind);
            for part in parts {
                self.scratch.push(' ');
                self.scratch.push_str(part);
            }
            note(&mut self.worked, &self.scratch, time);
        }
        // A request that the API turned down did not work, as far as its own kind is concerned.
        let upstream = decision.upstream.as_ref();
        if upstream
            .is_none_or(|up| up.api_error.is_none() && up.status.is_none_or(|status| status < 400))
        {
            write_series(decision, who, &mut self.scratch);
            note(&mut self.worked, &self.scratch, time);
        }
    }

    /// Whose a refused token was, as it says itself: the workload of its subject, or its service account.
    fn of_token(&self, decision: &Decision<'_>) -> Option<String> {
        let token = decision.refused_token.as_ref()?;
        let subject = token.subject.as_deref()?;
        let known = self.subjects.get(subject).cloned();
        known.or_else(|| {
            let (namespace, account) = (token.namespace.as_ref()?, token.service_account.as_ref()?);
            Some(format!("{namespace}/{account}"))
        })
    }

    /// Notes whose an address is.
    fn address(&mut self, decision: &Decision<'_>, who: &str) {
        let time = decision.time;
        if let Some(client) = decision
            .caller
            .as_ref()
            .and_then(|caller| caller.client.as_deref())
            && !who.is_empty()
        {
            let address = host(client);
            let full = self.addresses.len() >= MOST;
            match self.addresses.get_mut(address) {
                Some(known) if known.0 == who => known.1 = time,
                Some(known) => *known = (who.to_owned(), time),
                None if !full => {
                    self.addresses
                        .insert(address.to_owned(), (who.to_owned(), time));
                }
                None => {}
            }
        }
    }

    fn carries(&mut self, credential: &str, decision: &Decision<'_>, who: &str) {
        let authority = decision
            .target
            .as_ref()
            .map_or("", |target| &*target.authority);
        self.scratch.clear();
        self.scratch.push_str(who);
        self.scratch.push(' ');
        self.scratch.push_str(authority);
        let full = self.carried.len() >= MOST;
        match self.carried.get_mut(&self.scratch) {
            Some(known) if known == credential => {}
            Some(known) => credential.clone_into(known),
            None if !full => {
                self.carried
                    .insert(self.scratch.clone(), credential.to_owned());
            }
            None => {}
        }
    }

    fn failed(
        &mut self,
        decision: &Decision<'_>,
        who: &str,
        source: &str,
        meaning: &'static Meaning,
    ) {
        let authority = decision
            .target
            .as_ref()
            .map_or("", |target| &*target.authority);
        let mut sample = Sample::of(decision);
        if sample.credential.is_none() && meaning.scope == Scope::Credential {
            sample.credential = self.carried.get(&format!("{who} {authority}")).cloned();
        }
        let mut series = String::new();
        write_series(decision, who, &mut series);
        let reason = meaning.reason;
        let facts = Facts {
            who,
            authority,
            source,
            series: &series,
            worked: self.worked.contains_key(&series),
        };
        let (name, cured_by) = scope::of(meaning, &sample, &facts);
        let known = self.causes.len() < MOST || self.causes.contains_key(&name);
        let name = if known {
            name
        } else {
            format!("{reason} others")
        };
        let cause = self.causes.entry(name).or_insert_with(|| Cause {
            meaning,
            cured_by,
            episodes: Vec::new(),
            forgotten: 0,
        });
        let cured = self.worked.get(&cause.cured_by);
        let client = decision.caller.as_ref();
        let client = client.and_then(|caller| caller.client.as_deref());
        let whom = match who {
            "" => client.map_or("unknown", host),
            who => who,
        };
        let failure = Failure {
            time: decision.time,
            id: &decision.id,
            whom,
            source,
            series,
        };
        cause.add(failure, &decision.reason, sample, cured);
    }

    fn summary(&mut self, summary: &crate::record::Summary<'_>, source: &str, options: &Options) {
        let Some(workload) = &summary.workload else {
            return;
        };
        if options
            .workload
            .as_deref()
            .is_some_and(|wanted| wanted != &*workload.name)
        {
            return;
        }
        // The refusals that were written one by one have made the cause; this only counts.
        for counted in &summary.reasons {
            let whose = self
                .causes
                .values_mut()
                .filter(|cause| cause.meaning.reason == &*counted.reason);
            let mut episodes = whose.filter_map(|cause| cause.episodes.last_mut());
            if let Some(episode) =
                episodes.find(|episode| episode.affected.contains_key(&*workload.name))
            {
                episode.count += counted.count;
                episode.last = episode.last.max(summary.last);
                episode.sources.insert(source.to_owned());
                if let Some(affected) = episode.affected.get_mut(&*workload.name) {
                    affected.count += counted.count;
                    affected.last = affected.last.max(summary.last);
                }
            }
        }
    }
}

/// Appends one moment under a name, if there is room for the name.
fn note(worked: &mut HashMap<String, Timeline>, name: &str, time: Timestamp) {
    if let Some(timeline) = worked.get_mut(name) {
        timeline.add(time);
    } else if worked.len() < MOST {
        worked.entry(name.to_owned()).or_default().add(time);
    }
}

fn note_sent(
    sent: &mut HashMap<String, BTreeMap<String, Timeline>>,
    credential: &str,
    who: &str,
    time: Timestamp,
) {
    if !sent.contains_key(credential) {
        if sent.len() >= MOST {
            return;
        }
        sent.insert(credential.to_owned(), BTreeMap::new());
    }
    let Some(users) = sent.get_mut(credential) else {
        return;
    };
    if let Some(timeline) = users.get_mut(who) {
        timeline.add(time);
    } else if users.len() < AFFECTED {
        users.entry(who.to_owned()).or_default().add(time);
    }
}

/// `r WHO AUTHORITY METHOD PATH`, with the shape of the path.
fn write_series(decision: &Decision<'_>, who: &str, into: &mut String) {
    into.clear();
    into.push_str("r ");
    into.push_str(who);
    let Some(target) = &decision.target else {
        return;
    };
    into.push(' ');
    into.push_str(&target.authority);
    into.push(' ');
    into.push_str(target.method.as_deref().unwrap_or("CONNECT"));
    into.push(' ');
    if let Some(path) = &target.path {
        shape::append(path, into);
    }
}

/// An address without its port.
pub(super) fn host(client: &str) -> &str {
    client.rsplit_once(':').map_or(client, |(host, _)| host)
}

/// A file's name with its folder's, and without what rotation appends: the files of one gateway.
fn family(file: &str) -> &str {
    let folder = file.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
    let file = &file[folder..];
    let mut name = file.strip_suffix(".gz").unwrap_or(file);
    while let Some((rest, number)) = name.rsplit_once(['.', '-'])
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        name = rest;
    }
    name.strip_suffix(".jsonl").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_are_one_gateway_s() {
        for name in [
            "/var/log/a.jsonl",
            "log/a.jsonl.1",
            "log/a.jsonl.12.gz",
            "log/a.jsonl-20261123.gz",
        ] {
            assert_eq!(family(name), "log/a", "{name}");
        }
        assert_eq!(
            (host("10.0.0.7:51234"), host("[2001:db8::7]:443")),
            ("10.0.0.7", "[2001:db8::7]")
        );
    }
}
