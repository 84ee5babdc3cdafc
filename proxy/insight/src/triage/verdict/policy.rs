//! Refusals by policy: the policy changed, the clock's change moved its window, the code calls something else, or
//! the access was never given.

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};

use super::{
    super::{
        causes::{Ask, Blame},
        report::Confidence,
        scope::key,
        shape,
    },
    Draft,
};

pub(super) fn diagnose(draft: &mut Draft<'_>) {
    if draft.cause.meaning.label == "CODE" {
        return;
    }
    if draft.cause.meaning.label == "WINDOW" && clock_change(draft) {
        return;
    }
    for (what, expected, actual) in draft.episode.sample.mismatches.clone() {
        draft.because(format!("{what}: expected {expected}, got {actual}"));
    }
    if changed(draft) {
        return;
    }
    let worked = draft.finding.last_worked.is_some();
    if worked {
        draft.because(
            "the same request worked before, and no change of the resources is in these records",
        );
        draft.finding.confidence = Confidence::Medium;
        return;
    }
    match draft.cause.meaning.reason {
        "request_not_allowed" | "no_route" | "path_denied" => never_worked(draft),
        _ => {}
    }
}

/// Whether a new revision explains it: it touches what the request needs, and came between success and failure.
fn changed(draft: &mut Draft<'_>) -> bool {
    let sample = &draft.episode.sample;
    let named = [
        &sample.policy,
        &sample.workload,
        &sample.target,
        &sample.credential,
    ];
    let namespace = draft
        .whom()
        .split('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let revisions: Vec<_> = draft
        .collected
        .changes
        .revisions(draft.from(), draft.episode.first)
        .cloned()
        .collect();
    let touches = |resource: &str| {
        let (kind, name) = resource.split_once(' ').unwrap_or(("", resource));
        let exactly = named.iter().any(|named| named.as_deref() == Some(name));
        // A policy that was removed is named by no record any more.
        exactly || (kind == "AccessPolicy" && name.split('/').next() == Some(&namespace))
    };
    let exact = |resource: &str| {
        let name = resource.split_once(' ').map_or(resource, |(_, name)| name);
        named.iter().any(|named| named.as_deref() == Some(name))
    };
    let worked = draft.finding.last_worked.is_some();
    let found = revisions
        .iter()
        .find(|change| change.resources.iter().any(|one| exact(one)));
    let found = found.or_else(|| {
        worked.then(|| {
            revisions
                .iter()
                .find(|change| change.resources.iter().any(|one| touches(one)))
        })?
    });
    let Some(found) = found.cloned() else {
        return false;
    };
    if !worked && draft.cause.meaning.reason != "workload_unknown" {
        // It never worked, so the change need not be why.
        return false;
    }
    let revision = found.revision.clone().unwrap_or_default();
    let is_exact = found.resources.iter().any(|one| exact(one));
    let explains = |one: &&String| if is_exact { exact(one) } else { touches(one) };
    let resources = found.resources.iter().filter(explains).take(2).cloned();
    let resources = resources.collect::<Vec<_>>().join(", ");
    draft.because(format!(
        "it worked until revision {revision} changed {resources}"
    ));
    draft.finding.action = format!("correct {resources}, or undo that change");
    draft.finding.kind = "POLICY";
    draft.ask = Ask::Operator;
    draft.blame(Blame::Access, Confidence::High);
    draft.change(Some(found));
    true
}

/// The workload never made this request: a wrong path, or access that nobody has given.
fn never_worked(draft: &mut Draft<'_>) {
    let sample = draft.episode.sample.clone();
    let whom = draft.whom().to_owned();
    let (Some(method), Some(path), Some(authority)) =
        (&sample.method, &sample.path, &sample.authority)
    else {
        return;
    };
    let prefix = format!("r {whom} {authority} ");
    let known = draft.collected.worked.iter();
    let known = known.filter_map(|(name, times)| {
        let (known_method, known_path) = name.strip_prefix(&prefix)?.split_once(' ')?;
        Some((
            known_method.to_owned(),
            known_path.to_owned(),
            times.count(),
        ))
    });
    let mut called = String::new();
    shape::append(path, &mut called);
    let distance = |known: &str| strsim::damerau_levenshtein(known, &called);
    let near = known
        .min_by_key(|(known_method, known_path, _)| (distance(known_path), known_method != method));
    let close = |known: &str| distance(known) <= (called.len() / 5).clamp(1, 4);
    let works = draft.worked(&key::target(&whom, authority)).is_some();
    match near {
        Some((known_method, known_path, count))
            if close(&known_path) && (known_path != called || known_method != *method) =>
        {
            draft.because(format!(
                "{known_method} {known_path} worked {count} times; {method} {path} never did"
            ));
            draft.finding.action = format!("call {known_method} {known_path}; policy is fine");
            code(draft, Confidence::High);
        }
        _ if works => {
            draft.because(format!(
                "{whom} calls other paths of {authority} with success; {method} {path} never worked"
            ));
            draft.finding.action = format!(
                "if {method} {path} is meant, ask for it to be permitted; otherwise correct the code"
            );
            code(draft, Confidence::Medium);
        }
        _ => {
            draft.because("nothing of this workload at this service ever worked in these records");
            draft.finding.confidence = Confidence::Medium;
        }
    }
}

fn code(draft: &mut Draft<'_>, confidence: Confidence) {
    draft.blame(Blame::Code, confidence);
    draft.finding.kind = "CODE";
    draft.ask = Ask::Owner;
}

/// Whether the window moved by an hour with the clock's change while the caller did not.
fn clock_change(draft: &mut Draft<'_>) -> bool {
    let Some((_, window, _)) = draft
        .episode
        .sample
        .mismatches
        .iter()
        .find(|(what, ..)| what == "schedule")
    else {
        return false;
    };
    let window = window.clone();
    let zone = window.rsplit(" in ").next().unwrap_or_default();
    let (Ok(zone_), Some(before)) = (TimeZone::get(zone), draft.finding.last_worked) else {
        return false;
    };
    let first = draft.episode.first;
    let offset = |at: Timestamp| zone_.to_offset(at);
    let moved = offset(first).seconds() - offset(before).seconds();
    // The next run after it may be some days later, for a weekly job.
    let recent = before
        .saturating_add(240.hours())
        .is_ok_and(|late| late >= first);
    if moved == 0 || !recent {
        return false;
    }
    let hours = f64::from(moved.abs()) / 3600.0;
    let way = if moved > 0 { "earlier" } else { "later" };
    draft.because(format!("the clocks of {zone} were changed since it last worked: the window opens {hours} h {way} in UTC"));
    draft.because(format!("the window is {window}"));
    draft.finding.what = format!(
        "{} calls outside of its window since the clocks of {zone} changed",
        draft.whom()
    );
    draft.finding.action = format!(
        "set the CronJob's spec.timeZone to {zone}, as the window's; or widen conditions.schedule"
    );
    draft.ask = Ask::Owner;
    draft.blame(Blame::Access, Confidence::High);
    true
}
