//! A report for people: as text for a terminal, and as Markdown for a ticket.

use std::fmt::Write as _;

use countersign_types::shown::escaped;
use jiff::{Timestamp, tz::TimeZone};

use super::report::{Finding, Report};

/// How times are shown.
#[derive(Debug, Clone)]
pub struct Style {
    /// The zone of the times.
    pub zone: TimeZone,
    /// The columns of the terminal.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            zone: TimeZone::UTC,
            width: 110,
        }
    }
}

/// The report as text. Foreign text in it is escaped.
pub fn table(report: &Report, style: &Style) -> String {
    let mut out = String::new();
    let zone = style.zone.iana_name().unwrap_or("UTC");
    if let (Some(from), Some(to)) = (report.from, report.to) {
        let (from, to) = (full(from, style), full(to, style));
        let requests = report.requests;
        line(
            &mut out,
            &format!("{requests} requests from {from} to {to} ({zone})"),
        );
    }
    line(&mut out, &format!("{}.", report.verdict));
    for finding in report.findings.iter().chain(&report.api_errors) {
        out.push('\n');
        show(&mut out, finding, report.to, style);
    }
    if !report.notes.is_empty() {
        out.push('\n');
        for note in &report.notes {
            line(&mut out, &format!("note: {note}"));
        }
    }
    out
}

/// One finding as text.
pub fn finding(finding: &Finding, style: &Style) -> String {
    let mut out = String::new();
    show(&mut out, finding, None, style);
    out
}

fn show(out: &mut String, finding: &Finding, now: Option<Timestamp>, style: &Style) {
    let head = format!("{:<10} {}", finding.kind, finding.what);
    line(out, &aside(&head, &finding.blame_words, style.width));
    for one in finding.affected.iter().take(3) {
        let worked = one
            .last_worked
            .map(|at| format!("; last worked {}", time(at, now, style)));
        let request = &one.request;
        line(
            out,
            &format!(
                "{:10} {} {request}, {} since {}{}",
                "",
                one.name,
                times(one.count),
                time(one.first, now, style),
                worked.unwrap_or_default(),
            ),
        );
    }
    if finding.affected.len() > 3 {
        line(
            out,
            &format!("{:10} and {} more", "", finding.affected.len() - 3),
        );
    }
    if let Some(recovered) = finding.recovered {
        let (last, recovered) = (time(finding.last, now, style), time(recovered, now, style));
        line(
            out,
            &format!("  over     last failed {last}, worked again {recovered}"),
        );
    }
    for change in finding.changes.iter().take(2) {
        line(
            out,
            &format!(
                "  changed  {}: {}",
                time(change.at, now, style),
                change.what
            ),
        );
    }
    for fact in finding.because.iter().take(4) {
        line(out, &format!("  because  {}", cut(fact)));
    }
    let action = format!("  do       {}", finding.action);
    line(
        out,
        &aside(&action, &format!("ask {}", finding.ask), style.width),
    );
    line(
        out,
        &aside(
            &format!("  next     {}", finding.next),
            finding.confidence.words(),
            style.width,
        ),
    );
}

/// The beginning of a long sentence; the data has all of it.
fn cut(fact: &str) -> String {
    const MOST: usize = 150;
    if fact.chars().count() <= MOST {
        return fact.to_owned();
    }
    let kept: String = fact.chars().take(MOST).collect();
    format!("{kept}...")
}

/// A text at the left and another at the right, on one line if both fit.
fn aside(left: &str, right: &str, width: usize) -> String {
    let used = left.chars().count() + right.chars().count();
    let gap = width.saturating_sub(used).max(2);
    format!("{left}{}{right}", " ".repeat(gap))
}

fn line(out: &mut String, text: &str) {
    out.push_str(escaped(text).trim_end());
    out.push('\n');
}

/// The report as Markdown.
pub fn markdown(report: &Report, style: &Style) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "# Triage\n\n{}.\n", cell(&report.verdict));
    if report.findings.is_empty() && report.api_errors.is_empty() {
        return out;
    }
    let _ = writeln!(
        out,
        "| what | blame | since | last worked | requests | do | ask | evidence |"
    );
    let _ = writeln!(out, "|---|---|---|---|---|---|---|---|");
    for finding in report.findings.iter().chain(&report.api_errors) {
        let worked = finding
            .last_worked
            .map_or_else(|| "-".to_owned(), |at| full(at, style));
        let _ = writeln!(
            out,
            "| {} | {} ({}) | {}{} | {worked} | {} | {} | {} | `{}` |",
            cell(&finding.what),
            cell(&finding.blame_words),
            finding.confidence.words(),
            full(finding.first, style),
            finding
                .recovered
                .map_or_else(String::new, |at| format!(" to {}", full(at, style))),
            finding.count,
            cell(&finding.action),
            cell(&finding.ask),
            cell(&finding.evidence[0]),
        );
    }
    if !report.notes.is_empty() {
        out.push('\n');
        for note in &report.notes {
            let _ = writeln!(out, "- {}", cell(note));
        }
    }
    out
}

/// A text that stays within its cell.
fn cell(text: &str) -> String {
    let mut shown = String::new();
    for character in escaped(text).chars() {
        if matches!(
            character,
            '|' | '`' | '<' | '>' | '[' | ']' | '*' | '_' | '\\'
        ) {
            shown.push('\\');
        }
        shown.push(character);
    }
    shown
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        many => format!("{many} times"),
    }
}

fn full(at: Timestamp, style: &Style) -> String {
    at.to_zoned(style.zone.clone())
        .strftime("%Y-%m-%d %H:%M")
        .to_string()
}

/// A moment as seen from the end of the records, if that is known: `06:00`, `yesterday 06:00`, `Mon 23 Nov 06:00`.
fn time(at: Timestamp, now: Option<Timestamp>, style: &Style) -> String {
    let zoned = at.to_zoned(style.zone.clone());
    let today = now.map(|now| now.to_zoned(style.zone.clone()).date());
    let format = match today {
        Some(today) if today == zoned.date() => "%H:%M",
        Some(today) if today.yesterday().ok() == Some(zoned.date()) => "yesterday %H:%M",
        _ => "%a %-d %b %H:%M",
    };
    zoned.strftime(format).to_string()
}
