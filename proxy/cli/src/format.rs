//! `-o, --output`: one answer as a table for people, or as data.

use std::{fmt::Write as _, io::Write, process::ExitCode};

use clap::ValueEnum;
use countersign_config::shown::disturbs_lines;
use serde::Serialize;

/// The forms of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For people, on a terminal.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// The same as YAML.
    Yaml,
    /// For a ticket or a chat.
    Markdown,
}

/// The exit code of a command that found something: 1, as `kubectl diff` has it.
pub(super) const FINDINGS: u8 = 1;

/// The exit code of a command that could not be carried out: 2.
pub(super) const FAILED: u8 = 2;

/// Writes an answer as data; `None` for the forms that each command writes itself.
pub(super) fn data(answer: &impl Serialize, format: Format) -> anyhow::Result<Option<String>> {
    Ok(match format {
        Format::Json => Some(escape_json(&serde_json::to_string_pretty(answer)?) + "\n"),
        Format::Yaml => Some(serde_saphyr::to_string(answer)?),
        Format::Table | Format::Markdown => None,
    })
}

/// Reports an error, and the exit code for it; a closed output stays an error of its own kind.
pub(super) fn or_failed(done: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    done.or_else(|error| {
        if super::output::exit_code(&error).is_some() {
            return Err(error);
        }
        // Standard error may be closed.
        drop(write!(
            anstream::stderr().lock(),
            "{}",
            super::error_text(&error)
        ));
        Ok(ExitCode::from(FAILED))
    })
}

/// JSON whose texts do not disturb a terminal, with the same meaning.
pub(super) fn escape_json(json: &str) -> String {
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
