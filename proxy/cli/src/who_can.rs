//! `countersign who-can`: who may make a request.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::anyhow;
use clap::Args;
use countersign_core::clock::Clock;
use countersign_insight::{access::who_can, request::Asked, usage::Usage};
use jiff::Timestamp;

use super::{
    answer::{self, Format},
    diff::revision,
    revisions::Revisions,
};

/// Shows every workload, rule, window and credential that permits a request, since when and who approved it, when it was
/// last used and when it ends. Exit code 0 if nobody may, 1 if somebody may, 2 if that cannot be answered.
#[derive(Debug, Args)]
pub(super) struct WhoCanCommand {
    /// The request's method.
    method: String,
    /// The request's URL.
    url: String,
    /// A directory or file of resources.
    #[arg(long, value_name = "DIR")]
    resources: PathBuf,
    /// Decision logs (files, folders, or `-`), for what was used when.
    #[arg(long, value_name = "LOG")]
    decisions: Vec<PathBuf>,
    /// The state directory of a gateway, which has the revisions that were in force and when grants were last used.
    #[arg(long, value_name = "DIR")]
    revisions: Option<PathBuf>,
    /// The admin endpoint of a gateway that is asked for them instead; may be given for each gateway.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "revisions")]
    admin: Vec<SocketAddr>,
    /// The time, as in RFC 3339. Default: now.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// The format of the output.
    #[arg(short, long, value_parser = answer::formats(&[]), default_value = "table")]
    output: Format,
}

impl WhoCanCommand {
    pub(super) fn run(self) -> ExitCode {
        answer::or_failure(self.answer())
    }

    fn answer(self) -> anyhow::Result<ExitCode> {
        let loaded = revision(&self.resources)?;
        let asked = Asked::read(&self.method, &self.url, &loaded.policies);
        let asked = asked.map_err(|problem| anyhow!(problem))?;
        let mut usage = usage(&self.decisions)?;
        let kept = Revisions::new(self.revisions.as_ref(), &self.admin);
        for last_use in kept.last_uses()? {
            usage.add_kept(&last_use);
        }
        let at = self.at.unwrap_or_else(|| Clock::system().now());
        let mut answer = who_can(&loaded.policies, &asked, &usage, at);
        answer.look_back(&kept.open()?, &asked)?;
        answer::print(
            self.output,
            || answer.text(),
            || answer.markdown(),
            || answer.json(),
        )?;
        Ok(answer::findings(!answer.grants.is_empty()))
    }
}

/// What the records say, or nothing without records.
pub(super) fn usage(decisions: &[PathBuf]) -> anyhow::Result<Usage> {
    let mut usage = Usage::default();
    if decisions.is_empty() {
        return Ok(usage);
    }
    answer::decisions(decisions, |decision| usage.add(decision))?;
    Ok(usage)
}
