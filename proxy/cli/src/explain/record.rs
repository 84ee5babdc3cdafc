//! `countersign explain ID`: the story behind one record.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use countersign_config::{load, shown::escaped};
use countersign_core::clock::Clock;
use countersign_insight::{
    hindsight::{Hindsight, Remedy, Side},
    history::{Revision, RevisionChange},
    story::{Story, story},
    triage::{self, Style},
};
use jiff::tz::TimeZone;
use uuid::Uuid;

use crate::{
    answer::{self, Format},
    files::{found, unusable},
    logs::Logs,
    revisions::Revisions,
};

/// Tells the story of a record. Exit code 0 if its request went through, 1 if not, 2 if it is not found.
pub(super) fn explain(
    id: Uuid,
    logs: &Logs,
    revisions: &Revisions,
    resources: Option<&PathBuf>,
    output: Format,
) -> anyhow::Result<ExitCode> {
    let id = id.hyphenated().to_string();
    let mut reader = logs.open()?;
    let Some(mut story) = story(&mut reader, &id) else {
        let read = reader.counts().records;
        bail!(
            "none of the {read} records that were read has the id {id}; name the log of the gateway that refused it (--log), or ask it (--admin)"
        );
    };
    let history = revisions.open()?;
    let current = resources.map(current).transpose()?;
    if !history.is_empty() || current.is_some() {
        story.look_back(&history, current, Clock::system().now())?;
    }
    let text = || table(&story);
    answer::print(output, text, text, || &story)?;
    let went_through = matches!(
        story.record["outcome"].as_str(),
        Some("permitted" | "tunnelled")
    );
    Ok(answer::findings(!went_through))
}

/// The resources of a directory, as what is in force.
fn current(directory: &PathBuf) -> anyhow::Result<Revision> {
    let loaded = load::resources(&[directory]).map_err(|problems| unusable(&problems))?;
    found(&loaded)?;
    Ok(Revision::current(loaded))
}

fn table(story: &Story) -> String {
    let mut lines = vec![format!("{}.", story.what)];
    if let Some(detail) = story.record["detail"].as_str() {
        lines.push(detail.to_owned());
    }
    for change in &story.would_permit {
        lines.push(format!("would permit it: {change}"));
    }
    if let Some(hindsight) = &story.hindsight {
        look_back(hindsight, &mut lines);
    }
    let mut text = String::new();
    for line in &lines {
        text.push_str(&escaped(line));
        text.push('\n');
    }
    if let Some(finding) = &story.finding {
        let style = Style {
            zone: TimeZone::system(),
            ..Style::default()
        };
        text.push('\n');
        text.push_str(&triage::finding(finding, &style));
    }
    text
}

fn look_back(told: &Hindsight, lines: &mut Vec<String>) {
    if let Some(then) = &told.then {
        let since = then
            .since
            .map(|since| format!(", in force since {since}"))
            .unwrap_or_default();
        lines.push(format!(
            "then: revision {}{since}: {}",
            then.revision, then.decision
        ));
    }
    if let Some(change) = &told.caused_by {
        lines.push(format!("caused by {}", revision(change)));
        resources(change, lines);
    }
    if let Some(now) = &told.now {
        lines.push(format!("now: {}", would(now)));
    }
    if let Some(change) = &told.changed_by {
        lines.push(format!("changed by {}", revision(change)));
        resources(change, lines);
    }
    for nearest in &told.nearest {
        lines.push(format!("nearest now: {nearest}"));
    }
    if let Some(remedy) = &told.smallest {
        smallest(remedy, lines);
    }
    for note in &told.notes {
        lines.push(format!("note: {note}"));
    }
}

fn would(side: &Side) -> String {
    let revision = &side.revision;
    if side.sent {
        format!("revision {revision} would permit it: {}", side.decision)
    } else {
        format!("revision {revision} would refuse it: {}", side.decision)
    }
}

fn revision(change: &RevisionChange) -> String {
    let since = change
        .since
        .map(|since| format!(" of {since}"))
        .unwrap_or_default();
    format!(
        "revision {}{since}, which changed {} of {}",
        change.revision,
        count(change.changed),
        change.before
    )
}

fn count(resources: usize) -> String {
    match resources {
        1 => "1 resource".to_owned(),
        more => format!("{more} resources"),
    }
}

fn resources(change: &RevisionChange, lines: &mut Vec<String>) {
    for resource in &change.resources {
        let owner = resource.owner.as_ref().map_or_else(
            || "it names no owner".to_owned(),
            |owner| format!("ask {owner}"),
        );
        let approved = resource
            .approved
            .as_ref()
            .map(|approved| format!("; approved by {approved}"))
            .unwrap_or_default();
        lines.push(format!(
            "  {} {} {} ({owner}{approved})",
            resource.change, resource.kind, resource.name
        ));
        lines.extend(resource.diff.lines().map(|line| format!("    {line}")));
    }
}

fn smallest(remedy: &Remedy, lines: &mut Vec<String>) {
    for step in &remedy.steps {
        lines.push(format!("smallest change: {step}"));
    }
    for permits in &remedy.permits {
        lines.push(format!("  would permit {permits}"));
    }
    if remedy.more > 0 {
        lines.push(format!("  and {} more differences", remedy.more));
    }
}
