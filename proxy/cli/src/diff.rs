//! `countersign diff`: what two revisions permit differently.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use countersign_config::{
    load::{self, Loaded},
    policy::PolicySet,
};
use countersign_core::clock::Clock;
use countersign_insight::{diff::diff, replay::Replay};
use jiff::Timestamp;

use super::{
    answer::{self, Format},
    files::{found, unusable},
};

/// Shows what two revisions permit differently: computed from their patterns, not sampled. Exit code 0 if they
/// permit the same, 1 if not, 2 if they cannot be compared.
#[derive(Debug, Args)]
pub(super) struct DiffCommand {
    /// A directory or file of resources: the revision before.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// A directory or file of resources: the revision after.
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// From when times are compared, as in RFC 3339. Default: now.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Decision logs (files, folders, or `-`): decide again what really happened, and list only what would change.
    #[arg(long, value_name = "LOG")]
    decisions: Vec<PathBuf>,
    /// The format of the output.
    #[arg(short, long, value_parser = answer::formats(&[]), default_value = "table")]
    output: Format,
}

impl DiffCommand {
    pub(super) fn run(self) -> ExitCode {
        answer::or_failure(self.compare())
    }

    fn compare(self) -> anyhow::Result<ExitCode> {
        let [old, new] = [revision(&self.old)?, revision(&self.new)?];
        if !self.decisions.is_empty() {
            return replay(&self, &old.policies, &new.policies);
        }
        let at = self.at.unwrap_or_else(|| Clock::system().now());
        let report = diff(&old.policies, &new.policies, at);
        answer::print(
            self.output,
            || report.text(),
            || report.markdown(),
            || report.json(),
        )?;
        Ok(answer::findings(!report.is_empty()))
    }
}

fn replay(command: &DiffCommand, old: &PolicySet, new: &PolicySet) -> anyhow::Result<ExitCode> {
    let mut replay = Replay::new(old, new);
    answer::decisions(&command.decisions, |decision| replay.add(decision))?;
    let output = command.output;
    answer::print(
        output,
        || replay.text(),
        || replay.markdown(),
        || replay.json(),
    )?;
    Ok(answer::findings(!replay.is_empty()))
}

/// Loads the resources of one revision.
pub(super) fn revision(path: &Path) -> anyhow::Result<Loaded> {
    let loaded = load::resources(&[path]).map_err(|problems| unusable(&problems))?;
    found(&loaded)?;
    Ok(loaded)
}
