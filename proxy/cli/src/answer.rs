//! What the commands that answer a question have in common: their formats and their exit codes.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::ValueEnum;
use countersign_config::shown::{escaped, escaped_lines};
use countersign_insight::{
    reader::Reader,
    record::{Decision, Entry},
};
use serde_json::Value;

use super::{error_text, files::Listed, output};

/// The format of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text for a person.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Markdown, for a comment on a change.
    Markdown,
}

/// The exit code for an answer with findings, or without.
pub(super) fn findings(any: bool) -> ExitCode {
    ExitCode::from(u8::from(any))
}

/// The exit code of what could not be answered.
const FAILED: u8 = 2;

/// The exit code of a command; a failure is reported, and is not one of the findings.
pub(super) fn or_failure(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        output::exit_code(&error).unwrap_or_else(|| {
            // Standard error may be closed.
            drop(write!(anstream::stderr().lock(), "{}", error_text(&error)));
            ExitCode::from(FAILED)
        })
    })
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
    reader.each(|line| {
        if let Entry::Decision(decision) = &line.entry {
            see(decision);
        }
    });
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

/// Prints an answer in one of its formats.
pub(super) fn print(
    format: Format,
    text: &dyn Fn() -> String,
    markdown: &dyn Fn() -> String,
    json: &dyn Fn() -> Value,
) -> anyhow::Result<()> {
    let text = match format {
        Format::Table => escaped_lines(&text()).into_owned(),
        Format::Markdown => escaped_lines(&markdown()).into_owned(),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&harmless(json()))?),
        Format::Yaml => serde_saphyr::to_string(&harmless(json()))?,
    };
    let mut stdout = output::stdout();
    write!(stdout, "{text}")?;
    stdout.flush()?;
    Ok(())
}

/// The same without characters that disturb a terminal.
fn harmless(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(escaped(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(harmless).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            members
                .map(|(name, value)| (escaped(&name).into_owned(), harmless(value)))
                .collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}
