//! `countersign check`: all mistakes at once.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use countersign_config::{
    load,
    model::{Gateway, ResourceSource},
    problem::{Problem, Problems, Severity},
    setting::Setting,
};
use countersign_core::clock::Clock;
use countersign_gateway::certificates;

use super::{output, report};

/// Checks resources and reports every problem at once, each with its place and remedy.
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
}

impl CheckCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
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
        let problems = Problems(found.into_iter().map(nothing_is_an_error).collect());
        let code = report::problems(&problems)?;
        let failed = code == ExitCode::FAILURE || (self.strict && !problems.0.is_empty());
        if failed {
            return Ok(ExitCode::FAILURE);
        }
        let warnings = match problems.0.len() {
            0 => String::new(),
            1 => ", with one warning".to_owned(),
            more => format!(", with {more} warnings"),
        };
        let checked = checked.join(", ");
        writeln!(output::stdout(), "usable{warnings}: {checked}")?;
        Ok(ExitCode::SUCCESS)
    }
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
