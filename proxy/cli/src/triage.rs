//! `countersign triage`: why jobs failed, and what to do.

use std::{collections::HashSet, process::ExitCode};

use anyhow::Context;
use clap::Args;
use countersign_core::clock::Clock;
use countersign_insight::triage::{self, Finding, Options, Report, Style, Triage};
use jiff::{Span, Timestamp, tz::TimeZone};

use super::{
    answer::{self, Format},
    logs::Logs,
    progress,
};

/// Says why jobs failed: failures by cause, on whose side each is, since when, what changed just before, and the one
/// thing to do. Exit code 0 if nothing failed, 1 if something did, 2 if that cannot be said.
#[derive(Debug, Args)]
pub(super) struct TriageCommand {
    #[command(flatten)]
    logs: Logs,
    /// Only what concerns this workload.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    workload: Option<String>,
    /// Only records from then on: a time as in RFC 3339, or how long ago, such as 24h.
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// Only one run of a Job: its name, or that of its pod.
    #[arg(long, value_name = "JOB")]
    run: Option<String>,
    /// Also what was brief and is over.
    #[arg(long)]
    all: bool,
    /// Go on reading, and tell of each cause when it is first seen.
    #[arg(long)]
    follow: bool,
    /// The time zone of times in tables, such as Europe/Berlin. Default: this machine's.
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// The form of the answer.
    #[arg(short, long, value_parser = answer::formats(&[]), default_value = "table")]
    output: Format,
}

impl TriageCommand {
    pub(super) fn run(self) -> ExitCode {
        answer::or_failure(self.answer())
    }

    fn answer(&self) -> anyhow::Result<ExitCode> {
        let style = self.style()?;
        if self.follow {
            return self.watch(&style);
        }
        let mut reader = self.logs.open()?;
        let progress = progress::of(&mut reader);
        let report = triage::triage(&mut reader, self.options());
        drop(progress);
        self.print(&report, &style)?;
        Ok(answer::findings(report.has_findings()))
    }

    fn options(&self) -> Options {
        Options {
            workload: self.workload.clone(),
            since: self.since,
            run: self.run.clone(),
            all: self.all || self.follow,
        }
    }

    fn style(&self) -> anyhow::Result<Style> {
        let zone = match &self.time_zone {
            Some(name) => TimeZone::get(name)
                .with_context(|| format!("{name} is no time zone; write one as Europe/Berlin"))?,
            None => TimeZone::system(),
        };
        Ok(Style {
            zone,
            ..Style::default()
        })
    }

    fn print(&self, report: &Report, style: &Style) -> anyhow::Result<()> {
        answer::print(
            self.output,
            || triage::table(report, style),
            || triage::markdown(report, style),
            || report,
        )
    }

    /// Tells of each cause when it is first seen, until the input ends.
    fn watch(&self, style: &Style) -> anyhow::Result<ExitCode> {
        let mut reader = self.logs.follow()?;
        let mut triage = Triage::new(self.options());
        let mut told = HashSet::new();
        let clock = Clock::system();
        let mut looked = Timestamp::UNIX_EPOCH;
        let counts = reader.counts().clone();
        reader.try_each(|line| {
            triage.see(&line);
            let now = clock.now();
            let second = now.as_second() != looked.as_second();
            if second {
                looked = now;
                self.tell(triage.report(&counts), &mut told, style)?;
            }
            anyhow::Ok(())
        })?;
        self.tell(triage.report(reader.counts()), &mut told, style)?;
        Ok(if told.is_empty() {
            ExitCode::SUCCESS
        } else {
            answer::findings(true)
        })
    }

    fn tell(
        &self,
        mut report: Report,
        told: &mut HashSet<String>,
        style: &Style,
    ) -> anyhow::Result<()> {
        let mut is_new =
            |finding: &Finding| told.insert(format!("{} {}", finding.evidence[0], finding.reason));
        report.findings.retain(&mut is_new);
        report.api_errors.clear();
        if report.has_findings() {
            self.print(&report, style)?;
        }
        Ok(())
    }
}

/// A time, or how long ago.
fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let wrong = || {
        format!(
            "write a time as 2026-11-23T06:00:00Z, or how long ago as 90m, 24h or 7d, not {text}"
        )
    };
    let ago: Span = text.parse().map_err(|_| wrong())?;
    let now = Clock::system().now().to_zoned(TimeZone::UTC);
    let then = now.checked_sub(ago).map_err(|_| wrong())?;
    Ok(then.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_either_way() {
        let exact: Timestamp = "2026-11-23T06:00:00Z".parse().unwrap();
        assert_eq!(since("2026-11-23T06:00:00Z"), Ok(exact));
        for ago in ["90m", "24h", "7d"] {
            assert!(since(ago).unwrap() < Clock::system().now(), "{ago}");
        }
        assert!(since("yesterday").unwrap_err().contains("how long ago"));
    }
}
