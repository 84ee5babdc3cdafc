//! `countersign audit`: whether a decision log is what the gateway wrote.

use std::{fs, io::Write, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, Subcommand};
use countersign_audit::VerifyingKey;
use countersign_config::shown::escaped;
use countersign_insight::audit::{self, Checkpoints, Report, Sealed};
use serde_json::json;

use super::{
    answer::{self, Format},
    output, progress,
};

/// Checks that a decision log is what the gateway wrote (observe.audit).
#[derive(Debug, Args)]
pub(super) struct AuditCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Find any line that was changed, removed, added or moved, and say where. Exit code 0 if there is none, 1 if there
    /// is, 2 if that cannot be said.
    Verify {
        #[command(flatten)]
        signed: Signed,
        /// The form of the answer.
        #[arg(short, long, value_parser = answer::formats(&[]), default_value = "table")]
        output: Format,
    },
    /// Write a proof that a record was logged, for somebody who has neither the log nor the gateway.
    Prove {
        /// The record's id.
        id: String,
        #[command(flatten)]
        signed: Signed,
        /// Where the record's line goes; the proof goes to standard output.
        #[arg(long, value_name = "FILE")]
        line: PathBuf,
    },
    /// Check a record's line and its proof, with nothing else. Exit code 0 if it was logged, 1 if that is not proven.
    Check {
        /// The file with the record's line.
        line: PathBuf,
        /// The file with the proof.
        proof: PathBuf,
        /// The gateway's audit.pub.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The form of the answer.
        #[arg(short, long, value_parser = answer::formats(&[]), default_value = "table")]
        output: Format,
    },
}

/// A log, and what was signed of it.
#[derive(Debug, Args)]
struct Signed {
    /// Decision logs: files, also rotated and compressed ones, or folders of them.
    #[arg(value_name = "LOG", required = true)]
    logs: Vec<PathBuf>,
    /// The gateway's observe.audit.directory, with its checkpoints.
    #[arg(long, value_name = "DIR")]
    checkpoints: PathBuf,
    /// The gateway's audit.pub, from a place that whoever can change the log cannot change. Default: the one beside the
    /// checkpoints.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl AuditCommand {
    pub(super) fn run(self) -> ExitCode {
        answer::or_failure(match self.what {
            What::Verify { signed, output } => verify(&signed, output),
            What::Prove { id, signed, line } => prove(&id, &signed, &line),
            What::Check {
                line,
                proof,
                key,
                output,
            } => check(&line, &proof, &key, output),
        })
    }
}

impl Signed {
    fn read(&self) -> anyhow::Result<(Vec<Sealed>, Checkpoints, VerifyingKey)> {
        let beside = self.checkpoints.join("audit.pub");
        let key = read_key(self.key.as_ref().unwrap_or(&beside))?;
        let checkpoints = Checkpoints::read(&self.checkpoints)
            .with_context(|| format!("{} cannot be read", self.checkpoints.display()))?;
        Ok((Sealed::files(&self.logs)?, checkpoints, key))
    }
}

fn read_key(path: &PathBuf) -> anyhow::Result<VerifyingKey> {
    let text =
        fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    VerifyingKey::decode(&text)
        .with_context(|| format!("{} is not the audit.pub of a gateway", path.display()))
}

fn verify(signed: &Signed, output: Format) -> anyhow::Result<ExitCode> {
    let (files, checkpoints, key) = signed.read()?;
    let waiting = progress::busy("checking the log");
    let report = audit::verify(files, &checkpoints, &key)?;
    drop(waiting);
    answer::print(output, || table(&report), || table(&report), || &report)?;
    Ok(answer::findings(report.count > 0))
}

fn table(report: &Report) -> String {
    let mut lines = Vec::new();
    for problem in &report.problems {
        let place = match (&*problem.file, problem.line) {
            ("", _) => String::new(),
            (file, 0) => format!("{file}: "),
            (file, line) => format!("{file}:{line}: "),
        };
        lines.push(format!("{place}{}", problem.what));
    }
    let told = report.problems.len() as u64;
    if report.count > told {
        lines.push(format!("and {} more", report.count - told));
    }
    for (name, chain) in &report.chains {
        let signed = match chain.signed {
            Some(signed) => format!("{signed} signed"),
            None => "no checkpoint".to_owned(),
        };
        lines.push(format!(
            "chain {name}: {} lines from {}, {signed}",
            chain.lines, chain.first
        ));
    }
    let verdict = match report.count {
        0 => "the log is what the gateway wrote".to_owned(),
        count => format!("the log is NOT what the gateway wrote: {count} problems"),
    };
    lines.push(format!("{} lines: {verdict}", report.lines));
    let lines = lines.iter().map(|line| format!("{}\n", escaped(line)));
    lines.collect()
}

fn prove(id: &str, signed: &Signed, line: &PathBuf) -> anyhow::Result<ExitCode> {
    let (files, checkpoints, key) = signed.read()?;
    let proven = audit::prove(id, &files, &checkpoints, &key)?;
    fs::write(line, format!("{}\n", proven.line))
        .with_context(|| format!("{} cannot be written", line.display()))?;
    let mut stdout = output::raw_stdout();
    stdout.write_all(proven.proof.as_bytes())?;
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn check(
    line: &PathBuf,
    proof: &PathBuf,
    key: &PathBuf,
    output: Format,
) -> anyhow::Result<ExitCode> {
    let read = |path: &PathBuf| {
        fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
    };
    let (line, proof, key) = (read(line)?, read(proof)?, read_key(key)?);
    let (proven, told) = match audit::check(&line, &proof, &key) {
        Ok(checkpoint) => {
            let origin = escaped(&checkpoint.origin).into_owned();
            let told = format!(
                "this line was logged: {} has signed it in {origin}\n",
                key.name()
            );
            (true, told)
        }
        Err(error) => (false, format!("not proven: {error}\n")),
    };
    let text = || told.clone();
    answer::print(
        output,
        text,
        text,
        || json!({ "schema": "countersign.audit-check/v1", "proven": proven, "told": told.trim_end() }),
    )?;
    Ok(answer::findings(!proven))
}
