//! What the doctor found: sections of lines, each with a verdict and a remedy.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::api::Unread;

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// It works, and somebody should look at it.
    Warning,
    /// It does not work.
    Failed,
    /// It could not be looked at.
    Unknown,
}

impl Verdict {
    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Warning => "warn",
            Self::Failed => "FAIL",
            Self::Unknown => "?",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The stable code of the check.
    pub code: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found, a sentence.
    pub text: String,
    /// What to do; empty if nothing.
    pub remedy: String,
}

impl Finding {
    pub(super) fn fine(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(code, Verdict::Fine, text, "")
    }

    pub(super) fn warning(
        code: &'static str,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(code, Verdict::Warning, text, remedy)
    }

    pub(super) fn failed(
        code: &'static str,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(code, Verdict::Failed, text, remedy)
    }

    /// That something could not be looked at.
    pub(super) fn unknown(code: &'static str, what: &str, why: &Unread) -> Self {
        Self::new(
            code,
            Verdict::Unknown,
            format!("{what} cannot be looked at: {why}"),
            why.remedy(),
        )
    }

    fn new(
        code: &'static str,
        verdict: Verdict,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            code,
            verdict,
            text: text.into(),
            remedy: remedy.into(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "code": self.code, "verdict": self.verdict.as_str(),
            "text": self.text, "remedy": self.remedy,
        })
    }
}

/// What belongs together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What it is about.
    pub title: String,
    /// Its lines, never empty.
    pub findings: Vec<Finding>,
}

/// All that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order in which things depend on each other.
    pub sections: Vec<Section>,
}

impl Report {
    pub(super) fn add(&mut self, title: impl Into<String>, findings: Vec<Finding>) {
        if !findings.is_empty() {
            self.sections.push(Section {
                title: title.into(),
                findings,
            });
        }
    }

    /// How many lines have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        let findings = self.sections.iter().flat_map(|it| &it.findings);
        findings.filter(|it| it.verdict == verdict).count()
    }

    /// What does not work, or could not be looked at.
    pub fn has_findings(&self) -> bool {
        self.count(Verdict::Failed) + self.count(Verdict::Unknown) > 0
    }

    /// One line about all.
    pub fn summary(&self) -> String {
        let mut parts = vec![format!("{} in order", self.count(Verdict::Fine))];
        for (verdict, words) in [
            (Verdict::Warning, "to look at"),
            (Verdict::Failed, "broken"),
            (Verdict::Unknown, "not known"),
        ] {
            let count = self.count(verdict);
            if count > 0 {
                parts.push(format!("{count} {words}"));
            }
        }
        parts.join(", ")
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            _ = writeln!(text, "{}", section.title);
            for finding in &section.findings {
                let verdict = finding.verdict.as_str();
                _ = writeln!(text, "  {verdict:<4}  {} ({})", finding.text, finding.code);
                if !finding.remedy.is_empty() {
                    _ = writeln!(text, "        -> {}", finding.remedy);
                }
            }
            text.push('\n');
        }
        _ = writeln!(text, "{}", self.summary());
        text
    }

    /// For a ticket.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            _ = writeln!(text, "### {}\n", section.title);
            _ = writeln!(text, "| | what | remedy | code |\n|---|---|---|---|");
            for finding in &section.findings {
                let [what, remedy] =
                    [&finding.text, &finding.remedy].map(|it| it.replace('|', "\\|"));
                let verdict = finding.verdict.as_str();
                _ = writeln!(
                    text,
                    "| {verdict} | {what} | {remedy} | `{}` |",
                    finding.code
                );
            }
            text.push('\n');
        }
        _ = writeln!(text, "{}", self.summary());
        text
    }

    /// For a program.
    pub fn json(&self) -> Value {
        let sections = self.sections.iter().map(|section| {
            let findings: Vec<_> = section.findings.iter().map(Finding::json).collect();
            json!({"title": section.title, "findings": findings})
        });
        json!({
            "summary": self.summary(),
            "sections": sections.collect::<Vec<_>>(),
        })
    }
}
