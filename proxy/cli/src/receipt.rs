//! `countersign receipt`: what one run of a Job called.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use countersign_config::shown::escaped;
use countersign_insight::receipt::{self, Receipt};
use serde_json::json;

use super::{
    answer::{self, Format},
    logs::Logs,
};

/// Writes what one run of a Job called as one JSON document, or checks such a document against the log. Exit code 0 if it
/// is written or true, 1 if the log says something else, 2 if that cannot be said.
#[derive(Debug, Args)]
pub(super) struct ReceiptCommand {
    #[command(flatten)]
    logs: Logs,
    /// The run: the name of its Job, or of its pod.
    #[arg(long, value_name = "JOB", required_unless_present = "check")]
    run: Option<String>,
    /// A receipt to check.
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    check: Option<PathBuf>,
    /// The format of the output. Default: the receipt is JSON, and whether it is true is told as a table. Only JSON can be
    /// checked later.
    #[arg(short, long, value_parser = answer::formats(&[]))]
    output: Option<Format>,
}

impl ReceiptCommand {
    pub(super) fn run(self) -> ExitCode {
        answer::or_failure(match (&self.check, &self.run) {
            (Some(file), _) => self.compare(file),
            (None, Some(run)) => self.write(run),
            (None, None) => Err(anyhow::anyhow!("write --run JOB or --check FILE")),
        })
    }

    fn write(&self, run: &str) -> anyhow::Result<ExitCode> {
        let mut reader = self.logs.open()?;
        let Some(receipt) = receipt::receipt(&mut reader, run) else {
            let read = reader.counts().records;
            bail!("none of the {read} records that were read is of {run}");
        };
        let value = serde_json::to_value(&receipt)?;
        let format = self.output.unwrap_or(Format::Json);
        answer::print(
            format,
            || answer::facts(&value),
            || format!("```text\n{}```\n", answer::facts(&value)),
            || &receipt,
        )?;
        Ok(ExitCode::SUCCESS)
    }

    fn compare(&self, file: &PathBuf) -> anyhow::Result<ExitCode> {
        let text = fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let receipt: Receipt = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no receipt", file.display()))?;
        let differences = receipt::check(&receipt, &mut self.logs.open()?);
        let (run, requests) = (&receipt.run, receipt.requests);
        let lines = if differences.is_empty() {
            vec![format!(
                "the receipt of {run} is what the log says: {requests} requests"
            )]
        } else {
            differences.clone()
        };
        let text = |before: &str| {
            let shown: Vec<_> = lines.iter().map(|line| escaped(line)).collect();
            format!("{before}{}\n", shown.join(&format!("\n{before}")))
        };
        answer::print(
            self.output.unwrap_or_default(),
            || text(""),
            || text("- "),
            || json!({ "schema": "countersign.receipt-check/v1", "run": run, "differences": differences }),
        )?;
        Ok(answer::findings(!differences.is_empty()))
    }
}
