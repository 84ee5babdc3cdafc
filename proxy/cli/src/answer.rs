//! What the commands that answer a question have in common: the formats of `-o, --output`, how an answer is printed,
//! and their exit codes.

use std::{fmt::Write as _, io::Write, path::PathBuf, process::ExitCode};

use anyhow::bail;
use clap::{
    ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use countersign_config::shown::{disturbs_lines, escaped, escaped_lines};
use countersign_insight::{
    reader::Reader,
    record::{Decision, Entry},
};
use serde::Serialize;
use serde_json::Value;

use super::{error_text, files::Listed, output, progress};

/// The format of an answer. Every command that answers has the first four; [`formats`] says which has more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For people, on a terminal.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// The same as YAML.
    Yaml,
    /// For a ticket, a chat, or a comment on a change.
    Markdown,
    /// XML for a CI server.
    Junit,
    /// CSV.
    Csv,
    /// One HTML page.
    Html,
    /// Events of OCSF, a line each.
    Ocsf,
}

/// The formats of a command: the four of every command, and some more.
pub(super) fn formats(more: &'static [Format]) -> impl TypedValueParser<Value = Format> {
    let mut all = vec![Format::Table, Format::Json, Format::Yaml, Format::Markdown];
    all.extend(more);
    of_these(&all)
}

/// Some formats alone.
pub(super) fn of_these(formats: &[Format]) -> impl TypedValueParser<Value = Format> + use<> {
    let named = formats.iter().filter_map(ValueEnum::to_possible_value);
    PossibleValuesParser::new(named.collect::<Vec<_>>())
        .try_map(|name| Format::from_str(&name, false))
}

/// The exit code of a command that found something: 1, as `kubectl diff` has it.
const FINDINGS: u8 = 1;

/// The exit code of what could not be answered or done.
const FAILED: u8 = 2;

/// The exit code for an answer with findings, or without.
pub(super) fn findings(any: bool) -> ExitCode {
    if any {
        ExitCode::from(FINDINGS)
    } else {
        ExitCode::SUCCESS
    }
}

/// The exit code of a command; a failure is reported, and is not one of the findings.
pub(super) fn or_failure(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        output::exit_code(&error).unwrap_or_else(|| {
            // Standard error may be closed.
            drop(write!(anstream::stderr().lock(), "{}", error_text(&error)));
            failed()
        })
    })
}

/// The exit code of a command that failed.
pub(super) fn failed() -> ExitCode {
    ExitCode::from(FAILED)
}

/// Gives every decision in some logs to `see`, and says on standard error what could not be read.
///
/// # Errors
/// If a log cannot be opened, or has lines and not one of them is a record: then nothing is known.
pub(super) fn decisions(
    logs: &[PathBuf],
    mut see: impl FnMut(&Decision<'_>),
) -> anyhow::Result<()> {
    let mut reader = Reader::open(logs)?;
    let progress = progress::of(&mut reader);
    reader.each(|line| {
        if let Entry::Decision(decision) = &line.entry {
            see(decision);
        }
    });
    drop(progress);
    let counts = reader.counts();
    let notes = counts.notes().into_iter();
    let notes: Vec<_> = notes.map(|note| escaped(&note).into_owned()).collect();
    if counts.records == 0 && counts.lines > 0 {
        return Err(Listed(format!(
            "there are no records in --decisions\n{}",
            notes.join("\n")
        ))
        .into());
    }
    for note in notes {
        // Standard error may be closed.
        drop(writeln!(anstream::stderr().lock(), "note: {note}"));
    }
    Ok(())
}

/// Prints an answer in one of its formats; `data` is what a program reads.
pub(super) fn print<D: Serialize>(
    format: Format,
    text: impl FnOnce() -> String,
    markdown: impl FnOnce() -> String,
    data: impl FnOnce() -> D,
) -> anyhow::Result<()> {
    let text = match format {
        Format::Table => escaped_lines(&text()).into_owned(),
        Format::Markdown => escaped_lines(&markdown()).into_owned(),
        Format::Json => json(&data())?,
        Format::Yaml => yaml(&data())?,
        Format::Junit | Format::Csv | Format::Html | Format::Ocsf => {
            bail!("this command has no such format")
        }
    };
    show(&text)
}

/// A document as lines of a name and a value, for people; what is nested is named by its path.
pub(super) fn facts(value: &Value) -> String {
    let mut lines = Vec::new();
    gather("", value, &mut lines);
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in &lines {
        let line = format!("{name:<width$}  {}", escaped(value));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn gather(name: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    let below = |key: &str| match name {
        "" => key.to_owned(),
        name => format!("{name}.{key}"),
    };
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                gather(&below(key), value, lines);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (index, item) in items.iter().enumerate() {
                gather(&below(&index.to_string()), item, lines);
            }
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(plain).collect();
            lines.push((name.to_owned(), items.join(", ")));
        }
        Value::Null => {}
        other => lines.push((name.to_owned(), plain(other))),
    }
}

/// A text without its quotes.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Prints a text that disturbs no terminal.
pub(super) fn show(text: &str) -> anyhow::Result<()> {
    let mut stdout = output::stdout();
    write!(stdout, "{text}")?;
    stdout.flush()?;
    Ok(())
}

/// One JSON document, which ends its line and disturbs no terminal.
pub(super) fn json(data: &impl Serialize) -> anyhow::Result<String> {
    Ok(escape_json(&serde_json::to_string_pretty(data)?) + "\n")
}

/// One YAML document, which disturbs no terminal.
pub(super) fn yaml(data: &impl Serialize) -> anyhow::Result<String> {
    Ok(escaped_lines(&serde_saphyr::to_string(data)?).into_owned())
}

/// JSON whose texts do not disturb a terminal, with the same meaning.
fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if !disturbs_lines(character) {
            escaped.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            write!(escaped, "\\u{unit:04x}").expect("writing to a String does not fail");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t72_json_disturbs_no_terminal_and_says_the_same() {
        let written = serde_json::json!({ "a": "\u{1b}\u{9b}31m\u{202e}\n\u{e4}" });
        let shown = escape_json(&serde_json::to_string_pretty(&written).unwrap());
        assert!(!shown.contains(disturbs_lines), "{shown:?}");
        assert!(shown.contains("\\u009b31m\\u202e\\n\u{e4}"), "{shown}");
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, written);
    }
}
