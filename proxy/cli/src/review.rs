//! `countersign review`: who may reach what, what is used of it, and what is not in order.

use std::{fmt::Write as _, fs, io::ErrorKind, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use countersign_config::{
    closest, load, model::Governance, policy::PolicySet, shown::escaped_lines,
};
use countersign_core::clock::Clock;
use countersign_insight::{
    diff::diff,
    review::{self, Review, SignOff, SignOffs, Subject},
    usage::{Observed, Usage},
};
use jiff::Timestamp;

use super::{
    answer::{self, Format},
    diff::revision,
    files::{unusable, write_public},
    output,
    revisions::Revisions,
    who_can::usage,
};

/// Reviews access: per workload what it may reach and what it uses, and what is not in order. Exit code 0 without findings,
/// 1 with some, 2 if it cannot be done.
#[derive(Debug, Args)]
pub(super) struct ReviewCommand {
    /// A directory or file of resources.
    #[arg(value_name = "DIR")]
    resources: PathBuf,
    /// A Gateway file, whose `governance` is checked too.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Decision logs (files, folders, or `-`), for what was used when.
    #[arg(long, value_name = "LOG")]
    decisions: Vec<PathBuf>,
    /// After so many days without use a grant is a finding.
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(i64).range(1..=3650))]
    unused: i64,
    /// The state directory of a gateway, which has when grants were last used, and the scopes of credentials.
    #[arg(long, value_name = "DIR")]
    revisions: Option<PathBuf>,
    /// The admin endpoint of a gateway that is asked for them instead; may be given for each gateway.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "revisions")]
    admin: Vec<SocketAddr>,
    /// The file of sign-offs.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "countersign-sign-offs.json"
    )]
    sign_offs: PathBuf,
    /// Sign this review off as this person or group: for all workloads, or those named by --workload.
    #[arg(long, value_name = "WHO", conflicts_with = "suggest")]
    sign_off: Option<String>,
    /// A workload that is signed off.
    #[arg(long = "workload", value_name = "NAME", requires = "sign_off")]
    workloads: Vec<String>,
    /// Write narrower rules, from what was used, instead of the review.
    #[arg(long, requires = "decisions")]
    suggest: bool,
    /// The time, as in RFC 3339. Default: now.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// The format of the output.
    #[arg(short, long, value_parser = answer::formats(&[Format::Csv, Format::Html, Format::Ocsf]), default_value = "table")]
    output: Format,
}

impl ReviewCommand {
    pub(super) fn run(self) -> ExitCode {
        answer::or_failure(self.review())
    }

    fn review(self) -> anyhow::Result<ExitCode> {
        let loaded = revision(&self.resources)?;
        let policies = &loaded.policies;
        if self.suggest && self.decisions.iter().any(|path| path.as_os_str() == "-") {
            bail!(
                "--suggest reads the records twice, which standard input cannot do; write them to a file"
            );
        }
        let governance = self.governance()?;
        let now = self.at.unwrap_or_else(|| Clock::system().now());
        let mut usage = usage(&self.decisions)?;
        if self.suggest {
            return self.suggest(policies, &usage, now);
        }
        for last_use in Revisions::new(self.revisions.as_ref(), &self.admin).last_uses()? {
            usage.add_kept(&last_use);
        }
        let mut sign_offs = self.read_sign_offs()?;
        if let Some(who) = &self.sign_off {
            self.sign(who, policies, &mut sign_offs, now)?;
        }
        let review = Review::of(Subject {
            policies,
            governance: governance.as_ref(),
            usage: &usage,
            sign_offs: &sign_offs,
            now,
            unused_days: self.unused,
        });
        match self.output {
            Format::Csv => show(&review.csv())?,
            Format::Html => show(&review.html())?,
            Format::Ocsf => show(&review.ocsf())?,
            format => answer::print(
                format,
                || review.text(),
                || review.markdown(),
                || review.json(),
            )?,
        }
        Ok(answer::findings(!review.findings.is_empty()))
    }

    fn governance(&self) -> anyhow::Result<Option<Governance>> {
        let Some(config) = &self.config else {
            return Ok(None);
        };
        let (gateway, _) = load::gateway(config).map_err(|problems| unusable(&problems))?;
        Ok(gateway.governance)
    }

    fn read_sign_offs(&self) -> anyhow::Result<SignOffs> {
        let path = self.sign_offs.display();
        let text = match fs::read_to_string(&self.sign_offs) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("{path} cannot be read")),
        };
        SignOffs::read(&text).with_context(|| format!("{path} cannot be used"))
    }

    fn sign(
        &self,
        who: &str,
        policies: &PolicySet,
        sign_offs: &mut SignOffs,
        now: Timestamp,
    ) -> anyhow::Result<()> {
        if who.trim().is_empty() {
            bail!("--sign-off needs the name of a person or group");
        }
        let known: Vec<&str> = policies
            .workloads()
            .iter()
            .map(|workload| workload.name.as_str())
            .collect();
        if let Some(unknown) = self
            .workloads
            .iter()
            .find(|name| !known.contains(&name.as_str()))
        {
            let close = closest(unknown, known.iter().copied());
            let hint = close.map(|close| format!("; did you mean {close}?"));
            bail!(
                "there is no workload {unknown:?}; nothing was signed off{}",
                hint.unwrap_or_default()
            );
        }
        let named = |name: &&&str| {
            self.workloads.is_empty() || self.workloads.iter().any(|own| own == **name)
        };
        for name in known.iter().filter(named) {
            sign_offs.add(
                name,
                SignOff {
                    by: who.to_owned(),
                    at: now,
                    revision: policies.revision().to_owned(),
                },
            );
        }
        let path = &self.sign_offs;
        write_public(path, sign_offs.text().as_bytes())
            .with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Narrower rules, with the proof that nothing observed is lost and nothing is permitted anew.
    fn suggest(
        &self,
        policies: &PolicySet,
        usage: &Usage,
        now: Timestamp,
    ) -> anyhow::Result<ExitCode> {
        let suggestions = review::suggestions(policies, usage);
        let narrowed = review::applied(policies, &suggestions);
        let report = diff(policies, &narrowed, now);
        let mut observed = Observed::new(policies);
        answer::decisions(&self.decisions, |decision| observed.add(decision))?;
        let lost = observed.lost_in(&narrowed);
        if let Some(first) = lost.first() {
            bail!(
                "the suggestion would lose {} observed requests, such as {first}; nothing is suggested",
                lost.len()
            );
        }
        let wider = report
            .differences
            .iter()
            .filter(|difference| difference.kind() == "permits")
            .count();
        if wider > 0 || !report.incomplete.is_empty() {
            bail!(
                "it cannot be proven that the suggestion permits nothing new; nothing is suggested"
            );
        }
        let mut text = String::new();
        for suggestion in &suggestions {
            text.push_str(&suggestion.yaml);
            text.push_str("---\n");
        }
        let _ = writeln!(
            text,
            "# {} policies would be narrower. {} observed requests stay permitted, none is lost; nothing new is permitted.",
            suggestions.len(),
            observed.len()
        );
        show(&text)?;
        Ok(answer::findings(!suggestions.is_empty()))
    }
}

fn show(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut stdout = output::stdout();
    // CSV has line ends of its own.
    let lines = text.split("\r\n").map(escaped_lines);
    write!(stdout, "{}", lines.collect::<Vec<_>>().join("\r\n"))?;
    stdout.flush()?;
    Ok(())
}
