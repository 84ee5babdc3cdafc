//! `countersign check`: all mistakes at once.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use countersign_config::load;
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
    /// A Gateway file to check as well.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Also fail on warnings.
    #[arg(long)]
    strict: bool,
}

impl CheckCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut found = Vec::new();
        if let Some(config) = &self.config {
            match load::gateway(config) {
                Ok((gateway, warnings)) => {
                    found.extend(warnings.0);
                    let now = Clock::system().now();
                    found.extend(certificates::check(&gateway, now).0);
                }
                Err(problems) => found.extend(problems.0),
            }
        }
        let paths: Vec<_> = self.paths.iter().chain(&self.files).collect();
        let mut summary = String::new();
        if !paths.is_empty() {
            match load::resources_at(&paths, Clock::system().now()) {
                Ok(loaded) => {
                    let policies = &loaded.policies;
                    summary = format!(
                        "{} workloads, {} policies, {} credentials, revision {}",
                        policies.workloads().len(),
                        policies.policies().len(),
                        policies.credentials().len(),
                        policies.revision()
                    );
                    found.extend(loaded.warnings.0);
                }
                Err(problems) => found.extend(problems.0),
            }
        }
        let problems = countersign_config::problem::Problems(found);
        let code = report::problems(&problems)?;
        let failed = code == ExitCode::FAILURE || (self.strict && !problems.0.is_empty());
        if failed {
            return Ok(ExitCode::FAILURE);
        }
        writeln!(output::stdout(), "usable: {summary}")?;
        Ok(ExitCode::SUCCESS)
    }
}
