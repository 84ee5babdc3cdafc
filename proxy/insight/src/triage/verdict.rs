//! From causes to findings: what each episode means beside what worked and what changed.

mod identity;
mod policy;
mod upstream;

use jiff::{SignedDuration, Timestamp};

use super::{
    Options,
    causes::{self, Ask, Blame, Scope},
    changes::Change,
    collect::Collected,
    episode::{Cause, Episode},
    report::{AffectedWorkload, Confidence, Finding, Report},
    scope::key,
    timeline::Timeline,
};

/// The most workloads that a finding lists.
const LISTED: usize = 40;

/// What a diagnosis may change in a finding.
struct Draft<'a> {
    collected: &'a Collected,
    cause: &'a Cause,
    episode: &'a Episode,
    finding: Finding,
    ask: Ask,
    /// Whether the kind says that the code is not at fault.
    not_code: bool,
}

pub(super) fn report(collected: &Collected, options: &Options) -> Report {
    let mut findings = Vec::new();
    let mut api_errors = Vec::new();
    for cause in collected.causes.values() {
        for episode in &cause.episodes {
            let finding = diagnose(collected, cause, episode);
            let into = if cause.meaning.label == "API-ERROR" {
                &mut api_errors
            } else {
                &mut findings
            };
            into.push(finding);
        }
    }
    // The causes are in no order, and what is joined with what must not depend on it.
    findings.sort_by_cached_key(|finding| {
        (
            finding.first,
            finding.what.clone(),
            finding.evidence.clone(),
        )
    });
    let mut findings = merge(findings);
    let left_out = if options.all {
        0
    } else {
        findings.iter().filter(|one| one.is_brief()).count()
    };
    if !options.all {
        findings.retain(|finding| !finding.is_brief());
    }
    let order = |finding: &Finding| {
        (
            !finding.ongoing,
            std::cmp::Reverse(finding.count),
            finding.first,
        )
    };
    findings.sort_by_key(order);
    api_errors.sort_by_key(order);
    let mut notes = Vec::new();
    if left_out > 0 {
        notes.push(format!(
            "{left_out} causes were brief and are over; --all shows them"
        ));
    }
    Report {
        schema: "countersign.triage/v1",
        from: collected.first,
        to: collected.last,
        verdict: verdict(collected, &findings, &api_errors),
        findings,
        api_errors,
        requests: collected.decisions,
        permitted: collected.permitted,
        summarized: collected.summarized,
        lost: collected.dropped,
        notes,
    }
}

/// The one sentence.
fn verdict(collected: &Collected, findings: &[Finding], api_errors: &[Finding]) -> String {
    if collected.decisions == 0 && findings.is_empty() {
        return "There are no records of such requests: nothing arrived at the gateway. Look at the job's own log, its proxy variables and the network policy".to_owned();
    }
    let ongoing = findings.iter().filter(|finding| finding.ongoing).count();
    match (findings.len(), api_errors.len()) {
        (0, 0) => "Nothing is wrong: every request went through".to_owned(),
        (0, _) => "Nothing is wrong at the identity layer: the app got these API errors".to_owned(),
        (all, _) if ongoing == 0 => format!("{all} causes of failures, all over"),
        (all, _) => format!("{all} causes of failures, {ongoing} of them still there"),
    }
}

fn diagnose(collected: &Collected, cause: &Cause, episode: &Episode) -> Finding {
    let meaning = cause.meaning;
    let mut draft = Draft {
        collected,
        cause,
        episode,
        finding: blank(collected, cause, episode),
        ask: meaning.ask,
        not_code: matches!(meaning.blame, Blame::Access | Blame::Credential),
    };
    match meaning.label {
        "POLICY" | "WINDOW" | "CODE" => policy::diagnose(&mut draft),
        "IDENTITY" | "CLOCK" | "TRUST" => identity::diagnose(&mut draft),
        "API" | "NETWORK" | "RATE" | "API-ERROR" => upstream::diagnose(&mut draft),
        "SCOPE" | "CREDENTIAL" => upstream::credential(&mut draft),
        "GATEWAY" => upstream::gateway(&mut draft),
        _ => {}
    }
    draft.finish()
}

/// What every finding has.
fn blank(collected: &Collected, cause: &Cause, episode: &Episode) -> Finding {
    let meaning = cause.meaning;
    let worked = |name: &str| collected.worked.get(name);
    let mut affected: Vec<_> = episode
        .affected
        .iter()
        .map(|(name, one)| AffectedWorkload {
            name: name.clone(),
            owner: collected.owners.get(name).cloned(),
            request: one.request.clone(),
            count: one.count,
            first: one.first,
            last: one.last,
            last_worked: worked(&one.series).and_then(|series| series.last_before(one.first)),
        })
        .collect();
    affected.sort_by_key(|one| std::cmp::Reverse(one.count));
    affected.truncate(LISTED);
    let same = worked(&cause.cured_by);
    let last_worked = affected.iter().filter_map(|one| one.last_worked).max();
    let recovered = same.and_then(|same| same.first_after(episode.last));
    let reason = episode.reasons.iter().max_by_key(|(_, count)| **count);
    let mut evidence = episode.ids.clone();
    if !evidence.contains(&episode.last_id) {
        evidence.push(episode.last_id.clone());
    }
    let subject = subject(episode, cause);
    // Several reasons may be one cause; most of its requests say what it is.
    let meaning = match reason {
        Some((reason, _)) if meaning.scope == Scope::Api => causes::of(reason),
        Some(_) | None => meaning,
    };
    Finding {
        kind: cause.meaning.label,
        reason: reason.map(|(reason, _)| reason.clone()).unwrap_or_default(),
        what: format!("{subject} {}", meaning.says),
        blame: meaning.blame,
        blame_words: String::new(),
        confidence: Confidence::High,
        ongoing: recovered.is_none(),
        first: episode.first,
        last: episode.last,
        recovered,
        count: episode.count,
        last_worked,
        affected,
        changes: Vec::new(),
        because: Vec::new(),
        action: meaning.action.to_owned(),
        ask: String::new(),
        next: format!("countersign explain {}", evidence[0]),
        evidence,
    }
}

/// Of whom or what it is said.
fn subject(episode: &Episode, cause: &Cause) -> String {
    let sample = &episode.sample;
    let or = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.to_owned());
    let whom = episode.affected.keys().next().cloned().unwrap_or_default();
    let whom = match episode.affected.len() {
        0 | 1 => whom,
        many => format!("{whom} and {} others", many - 1),
    };
    match cause.meaning.scope {
        Scope::Credential => {
            let at = or(&sample.authority, "the API");
            or(&sample.credential, &format!("the credential for {at}"))
        }
        Scope::Api => or(&sample.authority, "the API")
            .trim_end_matches(":443")
            .to_owned(),
        Scope::Gateway
            if cause.meaning.blame == Blame::Gateway && cause.meaning.label == "GATEWAY" =>
        {
            "the gateway".to_owned()
        }
        Scope::Gateway | Scope::Access | Scope::Request | Scope::Proof => whom,
    }
}

impl Draft<'_> {
    /// From when on a change may be the cause: since it last worked, or a day before.
    fn from(&self) -> Option<Timestamp> {
        let day = self
            .episode
            .first
            .saturating_sub(SignedDuration::from_hours(24))
            .ok();
        self.finding.last_worked.or(day)
    }

    fn worked(&self, name: &str) -> Option<&Timeline> {
        self.collected.worked.get(name)
    }

    fn because(&mut self, fact: impl Into<String>) {
        self.finding.because.push(fact.into());
    }

    fn change(&mut self, change: Option<Change>) -> bool {
        let found = change.is_some();
        if let Some(change) = change {
            self.finding.changes.push(change);
        }
        found
    }

    fn blame(&mut self, blame: Blame, confidence: Confidence) {
        self.finding.blame = blame;
        self.finding.confidence = confidence;
        self.not_code = blame.is_access();
    }

    fn whom(&self) -> &str {
        self.episode
            .affected
            .keys()
            .next()
            .map(String::as_str)
            .unwrap_or_default()
    }

    /// The latest deploys and restarts, where nothing more likely was found.
    fn other_changes(&mut self) {
        let from = self.from();
        let whom = self.whom().to_owned();
        let deployed = self
            .collected
            .changes
            .deployed(&whom, from, self.episode.first);
        self.change(deployed);
    }

    fn finish(mut self) -> Finding {
        if self.finding.changes.is_empty() {
            self.other_changes();
        }
        let owners: std::collections::BTreeSet<_> = self
            .finding
            .affected
            .iter()
            .filter_map(|one| one.owner.as_deref())
            .collect();
        let owners: Vec<_> = owners.into_iter().take(3).collect();
        self.finding.ask = match self.ask {
            Ask::Owner if !owners.is_empty() => owners.join(", "),
            Ask::Operator if !owners.is_empty() => {
                format!("{} (tell {})", self.ask.words(), owners.join(", "))
            }
            ask => ask.words().to_owned(),
        };
        let words = self.finding.blame.words();
        self.finding.blame_words = if self.not_code {
            format!("{words}, not your code")
        } else {
            words.to_owned()
        };
        if let Some(detail) = &self.episode.sample.detail {
            self.finding.because.push(detail.clone());
        }
        self.finding
    }
}

/// Joins findings that one change of the resources explains and one action ends: they have one cause.
fn merge(findings: Vec<Finding>) -> Vec<Finding> {
    let mut merged: Vec<Finding> = Vec::new();
    for finding in findings {
        let revision = |one: &Finding| {
            one.changes
                .first()
                .and_then(|change| change.revision.clone())
        };
        let mine = revision(&finding);
        let same = |one: &&mut Finding| {
            mine.is_some()
                && revision(one) == mine
                && one.kind == finding.kind
                && one.blame == finding.blame
                && one.action == finding.action
        };
        let Some(into) = merged.iter_mut().find(same) else {
            merged.push(finding);
            continue;
        };
        into.first = into.first.min(finding.first);
        into.last = into.last.max(finding.last);
        into.count += finding.count;
        into.ongoing |= finding.ongoing;
        into.recovered = if into.ongoing {
            None
        } else {
            into.recovered.max(finding.recovered)
        };
        into.last_worked = into.last_worked.max(finding.last_worked);
        for one in finding.affected {
            match into
                .affected
                .iter_mut()
                .find(|known| known.name == one.name)
            {
                Some(known) => known.count += one.count,
                None => into.affected.push(one),
            }
        }
        into.evidence.extend(finding.evidence.into_iter().take(1));
    }
    merged
}

/// The key of everything that went through for a workload.
fn anything(whom: &str) -> String {
    key::workload(whom)
}

#[cfg(test)]
mod tests;
