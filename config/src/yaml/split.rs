//! Splits a file into documents and parses each on its own, so that a broken one does not hide the
//! others.

use serde_saphyr::UserMessageFormatter;

use super::{
    Document, Findings, Location, Source, Value, compose, library, node::size, placeholders,
};
use crate::pace::yield_core;

/// Parses every document of a file; one that does not parse is a finding.
pub(crate) fn documents<'s>(source: &'s Source, findings: &Findings) -> Vec<Document<'s>> {
    let mut documents = Vec::new();
    for (lines_before, text) in split(&source.text) {
        if text.lines().all(is_blank) {
            continue;
        }
        yield_core();
        let root = match compose::document(text, lines_before) {
            Some(root) => root,
            None => match library::document(text, lines_before) {
                Ok(root) => root,
                Err(error) => {
                    if !report_placeholder(source, lines_before, text, findings) {
                        report(source, lines_before, text, &error, findings);
                    }
                    continue;
                }
            },
        };
        if !matches!(root.value, Value::Null) {
            documents.push(Document { source, root });
        }
    }
    documents
}

/// The texts between document markers, each with the number of lines before it. A line that starts with
/// `---` is always a marker: YAML forbids it inside any scalar.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut part_start, mut part_line) = (0, 0);
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let next = offset + line.len();
        if is_marker(line, "---") && offset > part_start {
            parts.push((part_line, &text[part_start..offset]));
            (part_start, part_line) = (offset, number);
        } else if is_marker(line, "...") {
            parts.push((part_line, &text[part_start..next]));
            (part_start, part_line) = (next, number + 1);
        }
        offset = next;
    }
    parts.push((part_line, &text[part_start..]));
    parts
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn is_blank(line: &str) -> bool {
    let line = line
        .strip_prefix("---")
        .or_else(|| line.strip_prefix("..."))
        .unwrap_or(line)
        .trim_start_matches('\u{feff}')
        .trim();
    line.is_empty() || line.starts_with('#')
}

/// Reports the first placeholder of a text that is not valid YAML; without quotes they begin mappings.
fn report_placeholder(
    source: &Source,
    lines_before: usize,
    text: &str,
    findings: &Findings,
) -> bool {
    for (number, line) in text.lines().enumerate() {
        let content = line.split(" #").next().unwrap_or_default();
        if content.starts_with('#') {
            continue;
        }
        let Some(placeholder) = placeholders::find(content) else {
            continue;
        };
        let before = line.split(placeholder).next().unwrap_or_default();
        let column = before.chars().count() + 1;
        let location = Location::position(source, lines_before + number + 1, column);
        placeholders::report(&location, placeholder, true, findings);
        return true;
    }
    false
}

fn report(
    source: &Source,
    lines_before: usize,
    text: &str,
    error: &serde_saphyr::Error,
    findings: &Findings,
) {
    let last = text.trim_end().lines().count().max(1);
    let (line, column) = error
        .location()
        .map_or((last, 1), |at| (size(at.line()), size(at.column()).max(1)));
    let line = line.clamp(1, last);
    let said = error
        .without_snippet()
        .render_with_formatter(&UserMessageFormatter);
    findings.error(
        &Location::position(source, lines_before + line, column),
        "invalid-yaml",
        format!("this is not valid YAML: {}", gist(&said)),
        if line == last {
            "fix the syntax; if the text ends too early, the file may be half written"
        } else {
            "fix the syntax at or just before this place"
        },
    );
}

/// The first line, without its place, which counts from the document's start.
fn gist(text: &str) -> &str {
    let line = text.lines().next().unwrap_or(text);
    line.split_once(" at line ")
        .map_or(line, |(gist, _)| gist)
        .trim()
}
