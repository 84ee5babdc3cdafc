//! The results as text, Markdown, JSON and `JUnit`.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// The name and version of the JSON document.
const SCHEMA: &str = "countersign.test/v1";

/// What became of each expectation.
#[derive(Debug)]
pub struct Results {
    /// The revision that was asked.
    pub revision: String,
    /// In the order of the file.
    pub cases: Vec<Case>,
}

/// One expectation.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Its line in the file.
    pub line: u64,
    /// What is not as expected.
    pub failure: Option<String>,
    /// How the request was decided.
    pub explanation: String,
}

impl Results {
    /// How many are not as expected.
    pub fn failures(&self) -> usize {
        self.cases
            .iter()
            .filter(|case| case.failure.is_some())
            .count()
    }

    fn headline(&self) -> String {
        let (all, failed) = (self.cases.len(), self.failures());
        let revision = &self.revision;
        match failed {
            0 => format!("{all} of {all} as expected under revision {revision}"),
            failed => format!("{failed} of {all} not as expected under revision {revision}"),
        }
    }

    /// For a person to read: what failed, with how it was decided.
    pub fn text(&self, file: &str) -> String {
        let mut text = String::new();
        for case in &self.cases {
            let Some(failure) = &case.failure else {
                continue;
            };
            let _ = writeln!(
                text,
                "FAILED {} ({file}:{})\n  {failure}",
                case.name, case.line
            );
            for line in case.explanation.trim_end().lines() {
                let _ = writeln!(text, "    {line}");
            }
            text.push('\n');
        }
        text + &self.headline() + "\n"
    }

    /// For a comment on a change.
    pub fn markdown(&self, file: &str) -> String {
        let mut text = format!("{}\n", self.headline());
        if self.failures() > 0 {
            text.push_str("\n| test | place | what |\n|---|---|---|\n");
        }
        for case in &self.cases {
            if let Some(failure) = &case.failure {
                let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
                let _ = writeln!(
                    text,
                    "| {} | {}:{} | {} |",
                    cell(&case.name),
                    cell(file),
                    case.line,
                    cell(failure)
                );
            }
        }
        text
    }

    /// For a program to read.
    pub fn json(&self, file: &str) -> Value {
        let cases = self.cases.iter().map(|case| {
            json!({
                "name": case.name,
                "line": case.line,
                "passed": case.failure.is_none(),
                "failure": case.failure,
                "explanation": case.explanation,
            })
        });
        json!({
            "schema": SCHEMA,
            "file": file,
            "revision": self.revision,
            "failed": self.failures(),
            "tests": cases.collect::<Vec<Value>>(),
        })
    }

    /// For a CI server: `JUnit`'s XML.
    pub fn junit(&self, file: &str) -> String {
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{0}\" failures=\"{1}\">\n  <testsuite name=\"{2}\" tests=\"{0}\" failures=\"{1}\" errors=\"0\" skipped=\"0\">\n",
            self.cases.len(),
            self.failures(),
            xml(file)
        );
        for case in &self.cases {
            let (name, file) = (xml(&case.name), xml(file));
            let head = format!(
                "    <testcase classname=\"{file}\" name=\"{name}\" file=\"{file}\" line=\"{}\"",
                case.line
            );
            let _ = match &case.failure {
                None => writeln!(text, "{head}/>"),
                Some(failure) => writeln!(
                    text,
                    "{head}>\n      <failure message=\"{}\">{}</failure>\n    </testcase>",
                    xml(failure),
                    xml(&case.explanation)
                ),
            };
        }
        text + "  </testsuite>\n</testsuites>\n"
    }
}

/// Text within XML 1.0, which has no place for control characters, not even escaped.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(character),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ if character.is_control() => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}
