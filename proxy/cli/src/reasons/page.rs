//! How reasons are shown: as a list, as one reason's card, and as the page `docs/reasons.md`.

use std::fmt::Write as _;

use countersign_core::reason::{Blame, Language, Reason};

use super::{example, meaning};

/// Fewer columns do not hold a line of a list.
const NARROW: usize = 100;

/// A line for each, or some lines where there are few columns.
pub(super) fn list(reasons: &[Reason], columns: usize) -> String {
    let mut text = String::new();
    for reason in reasons {
        let facts = reason.facts();
        let (code, blame) = (facts.code, facts.blame.as_str());
        if columns < NARROW {
            let _ = writeln!(text, "{code}");
            let told = format!("{} {blame}: {}", facts.status, meaning(*reason));
            text.push_str(&wrapped("  ", &told, columns));
        } else {
            let told = meaning(*reason);
            let _ = writeln!(text, "{code:<30} {}  {blame:<8}  {told}", facts.status);
        }
    }
    text
}

/// Some lines of words, none longer than so many columns if its words are not.
fn wrapped(before: &str, text: &str, columns: usize) -> String {
    let mut lines = String::new();
    let mut line = before.to_owned();
    for word in text.split(' ') {
        let is_begun = line.len() > before.len();
        if is_begun && line.chars().count() + 1 + word.chars().count() > columns {
            let _ = writeln!(lines, "{line}");
            line.truncate(before.len());
        } else if is_begun {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(lines, "{line}");
    lines
}

/// All about one, for a terminal.
pub(super) fn text(reason: Reason, columns: usize) -> String {
    let facts = reason.facts();
    let mut text = wrapped("", &format!("{}: {}", facts.code, meaning(reason)), columns);
    let mut line = |name: &str, what: &str| {
        if columns < NARROW {
            let _ = writeln!(text, "{name}");
            text.push_str(&wrapped("  ", what, columns));
        } else {
            let _ = writeln!(text, "  {name:<13} {what}");
        }
    };
    line("blame", facts.blame.as_str());
    line("refused with", &refused_with(facts.language, facts.status));
    line("caller reads", facts.caller);
    line("remedy", facts.remedy);
    if let Some(causes) = reason.other_causes() {
        line("other causes", causes.what);
        if !causes.told_apart.is_empty() {
            line("told apart", causes.told_apart);
        }
    }
    if let Some(example) = example(reason) {
        line("a record", example);
    }
    text
}

/// All about one, as a section of the page.
pub(super) fn section(reason: Reason) -> String {
    let facts = reason.facts();
    let mut text = format!("## `{}`\n\n{}\n\n", facts.code, meaning(reason));
    let mut line = |name: &str, what: &str| {
        let _ = writeln!(text, "- {name}: {what}");
    };
    line("Blame", facts.blame.as_str());
    line(
        "The caller gets",
        &format!(
            "{}: *{}*",
            refused_with(facts.language, facts.status),
            facts.caller
        ),
    );
    line("Remedy", facts.remedy);
    if let Some(causes) = reason.other_causes() {
        line("What else can cause it", causes.what);
        if !causes.told_apart.is_empty() {
            line("How they are told apart", causes.told_apart);
        }
    }
    if let Some(example) = example(reason) {
        let _ = write!(text, "\n```json\n{}\n```\n", broken(example));
    }
    text.push('\n');
    text
}

/// The whole page.
pub(super) fn page(reasons: &[Reason]) -> String {
    let mut text = HEAD.to_owned();
    for blame in [
        Blame::Caller,
        Blame::Operator,
        Blame::Platform,
        Blame::Upstream,
        Blame::Gateway,
    ] {
        let _ = writeln!(
            text,
            "| **{}** {} | | |",
            blame.as_str(),
            whom_to_ask(blame)
        );
        for reason in reasons {
            let facts = reason.facts();
            if facts.blame == blame {
                let _ = writeln!(
                    text,
                    "| [`{code}`](#{code}) | {} | {} |",
                    facts.status,
                    meaning(*reason),
                    code = facts.code
                );
            }
        }
    }
    text.push('\n');
    for reason in reasons {
        text.push_str(&section(*reason));
    }
    let end = text.trim_end().len();
    text.truncate(end);
    text.push('\n');
    text
}

const HEAD: &str = "<!-- Made by `just reference` from proxy/core/src/reason.rs; do not edit. -->

# Reasons

Every refusal and failure has one reason, with a stable code, and one blame. The code is in the record
([decision-record.md](decision-record.md)), in the refusal ([refusals.md](refusals.md)) and in the metrics.
`countersign reasons CODE` prints its section; `countersign explain ID` says more of one record.

A reason that blames the caller or the upstream says what else can cause the same symptom, and how the two are told apart. A
reason that blames the operator, the platform or the gateway is meant so: the caller and the API can do nothing about it.
`detail` in the record has the particulars. The examples are records of the tests, without the fields that say nothing about
the reason.

*The API's own format* is the target's `refusal`; where the target has none, the status is the one in this table. A refusal in
that format is final: the same request is refused again until a person changes something.

| reason | status | what happened |
|---|---|---|
";

/// Whom a blame asks to act.
fn whom_to_ask(blame: Blame) -> &'static str {
    match blame {
        Blame::Caller => "(whoever owns the job)",
        Blame::Operator => "(whoever writes the resources and the gateway's configuration)",
        Blame::Platform => "(whoever runs what the gateway depends on)",
        Blame::Upstream => "(the API, or the network on the way to it)",
        Blame::Gateway => "(whoever runs the gateway)",
    }
}

fn refused_with(language: Language, status: u16) -> String {
    match language {
        Language::Api => "an error in the API's own format".to_owned(),
        Language::Http => format!("HTTP {status}"),
        Language::ApiBody => format!("HTTP {status}, its body in the API's own format"),
    }
}

/// One line of JSON, broken before each field of the record, as its readers look for fields.
fn broken(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let (mut depth, mut quoted, mut escaped) = (0_u32, false, false);
    for character in line.chars() {
        text.push(character);
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => depth = depth.saturating_sub(1),
            ',' if !quoted && depth == 1 => text.push_str("\n "),
            _ => {}
        }
    }
    text
}
