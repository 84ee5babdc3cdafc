//! `countersign reasons`: what each reason code means, and what to do. The page `docs/reasons.md` is its output.

mod page;

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use countersign_config::closest;
use countersign_core::reason::{Language, Reason};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    answer::{self, Format},
    output,
};

/// Records of the tests, a line for each reason, without the fields that say nothing about it.
const EXAMPLES: &str = include_str!("reasons/examples.jsonl");

/// Says what a reason code of a refusal or a record means, whose fault it is, and what to do. Exit code 0, or 2 if there is no
/// such code.
#[derive(Debug, Args)]
pub(super) struct ReasonsCommand {
    /// A reason's code, as in a record's `reason`. Default: all.
    #[arg(value_name = "CODE")]
    codes: Vec<String>,
    /// The format of the output.
    #[arg(short, long, value_parser = answer::formats(&[]), default_value = "table")]
    output: Format,
}

/// The document that a program reads.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    reasons: Vec<Entry>,
}

/// All that is known of one reason.
#[derive(Serialize)]
struct Entry {
    code: &'static str,
    status: u16,
    blame: &'static str,
    /// The format of the refusal: `api`, `http` or `api-body`.
    format: &'static str,
    meaning: &'static str,
    caller: &'static str,
    remedy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    other_causes: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    told_apart: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<serde_json::Value>,
}

impl ReasonsCommand {
    pub(super) fn run(self) -> ExitCode {
        answer::or_failure(self.answer())
    }

    fn answer(self) -> anyhow::Result<ExitCode> {
        let chosen = chosen(&self.codes)?;
        let columns = output::width().map_or(usize::MAX, usize::from);
        let text = || {
            if self.codes.is_empty() {
                page::list(&chosen, columns)
            } else {
                let each: Vec<_> = chosen
                    .iter()
                    .map(|reason| page::text(*reason, columns))
                    .collect();
                each.join("\n")
            }
        };
        let markdown = || {
            if self.codes.is_empty() {
                page::page(&chosen)
            } else {
                chosen.iter().map(|reason| page::section(*reason)).collect()
            }
        };
        let data = || Document {
            schema: "countersign.reasons/v1",
            reasons: chosen.iter().map(|reason| Entry::of(*reason)).collect(),
        };
        answer::print(self.output, text, markdown, data)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The reasons with some codes, or all.
fn chosen(codes: &[String]) -> anyhow::Result<Vec<Reason>> {
    if codes.is_empty() {
        return Ok(Reason::ALL.to_vec());
    }
    codes.iter().map(|code| find(code)).collect()
}

fn find(code: &str) -> anyhow::Result<Reason> {
    let known = || Reason::ALL.iter().copied();
    known()
        .find(|reason| reason.facts().code == code)
        .ok_or_else(|| {
            let close = closest(code, known().map(|reason| reason.facts().code));
            let hint = close.map_or_else(
                || "`countersign reasons` lists all".to_owned(),
                |close| format!("did you mean {close}?"),
            );
            anyhow!("there is no reason {code:?}; {hint}")
        })
}

impl Entry {
    fn of(reason: Reason) -> Self {
        let facts = reason.facts();
        let causes = reason.other_causes();
        Self {
            code: facts.code,
            status: facts.status,
            blame: facts.blame.as_str(),
            format: match facts.language {
                Language::Api => "api",
                Language::Http => "http",
                Language::ApiBody => "api-body",
            },
            meaning: meaning(reason),
            caller: facts.caller,
            remedy: facts.remedy,
            other_causes: causes.map(|causes| causes.what),
            told_apart: causes
                .map(|causes| causes.told_apart)
                .filter(|told_apart| !told_apart.is_empty()),
            example: example(reason).and_then(|line| serde_json::from_str(line).ok()),
        }
    }
}

/// What happened, in one sentence.
fn meaning(reason: Reason) -> &'static str {
    reason.facts().meaning.trim()
}

/// An example's record, as one line of JSON.
fn example(reason: Reason) -> Option<&'static str> {
    /// Which of the examples it is.
    #[derive(serde::Deserialize)]
    struct Of<'e> {
        #[serde(borrow)]
        reason: &'e RawValue,
    }
    let code = reason.facts().code;
    EXAMPLES.lines().find(|line| {
        let of: Result<Of<'_>, _> = serde_json::from_str(line);
        of.is_ok_and(|of| of.reason.get().trim_matches('"') == code)
    })
}

#[cfg(test)]
mod tests;
