//! `countersign check`: all mistakes at once.

use std::{fmt::Write as _, io::Write as _, path::PathBuf, process::ExitCode};

use clap::Args;
use countersign_config::{
    load,
    model::{Gateway, ResourceSource},
    problem::{Problem, Problems, Severity},
    setting::Setting,
};
use countersign_core::clock::Clock;
use countersign_gateway::certificates;
use serde::Serialize;

use super::{
    answer::{self, Format},
    output, report,
};

/// Checks resources and reports every problem at once, each with its place and remedy. Exit code 0 if they are usable, 1 if
/// not, 2 for wrong usage.
#[derive(Debug, Args)]
pub(super) struct CheckCommand {
    /// Directories or files of resources.
    #[arg(value_name = "DIR", required_unless_present_any = ["files", "config"])]
    paths: Vec<PathBuf>,
    /// A file of resources, as for kubectl.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A Gateway file to check as well; without DIR, with the resources that it names.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Also fail on warnings.
    #[arg(long)]
    strict: bool,
    /// The format of the output.
    #[arg(short, long, value_parser = answer::formats(&[]), default_value = "table")]
    output: Format,
}

/// What a program reads.
#[derive(Serialize)]
struct Document<'c> {
    schema: &'static str,
    usable: bool,
    checked: &'c [String],
    problems: Vec<Found<'c>>,
}

/// One problem; lines and columns count from 1, and line 0 is the whole file.
#[derive(Serialize)]
struct Found<'c> {
    severity: &'static str,
    code: &'static str,
    message: &'c str,
    remedy: &'c str,
    file: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
}

impl CheckCommand {
    pub(super) fn run(self) -> ExitCode {
        answer::or_failure(self.check())
    }

    fn check(self) -> anyhow::Result<ExitCode> {
        let (problems, checked) = self.problems();
        let usable = !problems.any_error() && (!self.strict || problems.0.is_empty());
        if self.output == Format::Table {
            report::to_stderr(&problems)?;
            if usable {
                let warnings = match problems.0.len() {
                    0 => String::new(),
                    1 => ", with one warning".to_owned(),
                    more => format!(", with {more} warnings"),
                };
                let checked = checked.join(", ");
                writeln!(output::stdout(), "usable{warnings}: {checked}")?;
            }
            return Ok(answer::findings(!usable));
        }
        let document = || Document {
            schema: "countersign.check/v1",
            usable,
            checked: &checked,
            problems: problems.0.iter().map(Found::of).collect(),
        };
        let markdown = || markdown(&problems, &checked, usable);
        answer::print(self.output, markdown, markdown, document)?;
        Ok(answer::findings(!usable))
    }

    /// All problems, and what was checked.
    fn problems(&self) -> (Problems, Vec<String>) {
        let mut found = Vec::new();
        let mut setting = Setting::at(Clock::system().now());
        let mut paths: Vec<PathBuf> = self.paths.iter().chain(&self.files).cloned().collect();
        let mut checked = Vec::new();
        if let Some(config) = &self.config {
            match load::gateway_here(config) {
                Ok((gateway, warnings)) => {
                    setting = setting.of(&gateway);
                    found.extend(warnings.0);
                    let now = Clock::system().now();
                    found.extend(certificates::check(&gateway, now).0);
                    checked.push(format!("gateway {}", gateway.name));
                    if paths.is_empty() {
                        paths = directories(&gateway);
                    }
                }
                Err(problems) => found.extend(problems.0),
            }
        }
        if !paths.is_empty() {
            match load::resources_in(&paths, &setting) {
                Ok(loaded) => {
                    let policies = &loaded.policies;
                    checked.push(format!(
                        "{} workloads, {} policies, {} credentials, revision {}",
                        policies.workloads().len(),
                        policies.policies().len(),
                        policies.credentials().len(),
                        policies.revision()
                    ));
                    found.extend(loaded.warnings.0);
                }
                Err(problems) => found.extend(problems.0),
            }
        }
        let problems = found.into_iter().map(nothing_is_an_error).collect();
        (Problems(problems), checked)
    }
}

impl<'c> Found<'c> {
    fn of(problem: &'c Problem) -> Self {
        let place = problem.place.as_ref();
        Self {
            severity: severity(problem),
            code: problem.code,
            message: &problem.message,
            remedy: &problem.remedy,
            file: place.map(|place| place.file.display().to_string()),
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
        }
    }
}

const fn severity(problem: &Problem) -> &'static str {
    match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn markdown(problems: &Problems, checked: &[String], usable: bool) -> String {
    let verdict = if usable { "usable" } else { "not usable" };
    let mut text = format!("**{verdict}**: {}\n", checked.join(", "));
    if !problems.0.is_empty() {
        text.push_str("\n| | where | what | remedy |\n|---|---|---|---|\n");
    }
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    for problem in &problems.0 {
        let place = problem.place.as_ref().map(|place| {
            let file = place.file.display();
            format!("{file}:{}:{}", place.line, place.column)
        });
        let _ = writeln!(
            text,
            "| {} `{}` | {} | {} | {} |",
            severity(problem),
            problem.code,
            cell(&place.unwrap_or_default()),
            cell(&problem.message),
            cell(&problem.remedy)
        );
    }
    text
}

/// The directories of resources that a gateway names and this machine has. A warning names the others.
fn directories(gateway: &Gateway) -> Vec<PathBuf> {
    let sources = gateway.resources.iter();
    sources
        .filter_map(|source| match source {
            ResourceSource::Directory(directory) => directory.exists().then(|| directory.clone()),
            ResourceSource::Kubernetes(_) => None,
        })
        .collect()
}

/// A gateway may run without resources yet; a check of nothing proves nothing.
fn nothing_is_an_error(problem: Problem) -> Problem {
    let severity = if problem.code == load::NOTHING_FOUND {
        Severity::Error
    } else {
        problem.severity
    };
    Problem {
        severity,
        ..problem
    }
}
