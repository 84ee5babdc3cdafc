//! `countersign receipt`: what one run of a Job called.

use std::{fs, io::Write, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use countersign_config::shown::escaped;
use countersign_insight::receipt::{self, Receipt};

use super::{answer, logs::Logs, output};

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
        answer::show(&answer::json(&receipt)?)?;
        Ok(ExitCode::SUCCESS)
    }

    fn compare(&self, file: &PathBuf) -> anyhow::Result<ExitCode> {
        let text = fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let receipt: Receipt = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no receipt", file.display()))?;
        let differences = receipt::check(&receipt, &mut self.logs.open()?);
        let mut stdout = output::stdout();
        for difference in &differences {
            writeln!(stdout, "{}", escaped(difference))?;
        }
        let code = if differences.is_empty() {
            writeln!(
                stdout,
                "the receipt of {} is what the log says: {} requests",
                escaped(&receipt.run),
                receipt.requests
            )?;
            ExitCode::SUCCESS
        } else {
            answer::findings(true)
        };
        stdout.flush()?;
        Ok(code)
    }
}
