//! `countersign tail`: records as they come, of all gateways at once.

use std::{io::Write, net::SocketAddr, path::PathBuf, process::ExitCode, thread, time::Duration};

use anyhow::Context;
use clap::Args;
use countersign_audit::ocsf::{self, EventChain};
use countersign_config::shown::escaped;
use countersign_insight::{brief::brief, filter::Filter, reader::Reader};
use jiff::tz::TimeZone;
use uuid::Uuid;

use super::{
    admin,
    answer::{self, Format},
    output,
};

/// How often each gateway is asked.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Shows records as they come, of all gateways at once. Reads their admin endpoints.
#[derive(Debug, Args)]
pub(super) struct TailCommand {
    /// A gateway's admin endpoint; may be given for each gateway.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: Vec<SocketAddr>,
    /// Show only records for which this CEL expression holds, such as
    /// `outcome == "refused" && workload.name.startsWith("qa/")`.
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
    /// Show the records that are there, and end.
    #[arg(long)]
    once: bool,
    /// A line for people, a list of such lines (`markdown`), the records themselves (`json` a line each, `yaml` a document
    /// each), or events of the Open Cybersecurity Schema Framework for a SIEM (`ocsf`, a line each).
    #[arg(short, long, alias = "format", value_parser = answer::formats(&[Format::Ocsf]), default_value = "table")]
    output: Format,
    /// Decision logs to show instead, from their beginning to their end: files (also rotated and compressed ones), folders
    /// of them, or `-` for standard input.
    #[arg(value_name = "LOG", conflicts_with_all = ["admin", "once"])]
    paths: Vec<PathBuf>,
}

/// One gateway, and what was seen of it.
struct Followed {
    address: SocketAddr,
    next: u64,
    /// The last failure to ask it, so that it is told once.
    failed: Option<String>,
}

impl TailCommand {
    pub(super) fn run(self) -> ExitCode {
        answer::or_failure(self.follow())
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "a command that waits for what its user wants to see"
    )]
    fn follow(&self) -> anyhow::Result<ExitCode> {
        let filter = self.filter.as_deref().map(Filter::parse).transpose();
        let filter = filter.context("--filter is no expression over a record")?;
        // What is shown by one command belongs together.
        let mut chain = EventChain::new(Uuid::now_v7().to_string(), "countersign tail");
        if !self.paths.is_empty() {
            let reader = Reader::open(&self.paths)?;
            self.show(reader, filter.as_ref(), &mut chain)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut gateways: Vec<_> = self
            .admin
            .iter()
            .map(|address| Followed::new(*address))
            .collect();
        loop {
            let mut inputs: Vec<(String, Box<dyn std::io::Read + Send>)> = Vec::new();
            for gateway in &mut gateways {
                match admin::records_after(gateway.address, gateway.next) {
                    Ok((lines, next)) => {
                        gateway.next = next;
                        gateway.failed = None;
                        inputs.push((
                            gateway.address.to_string(),
                            Box::new(std::io::Cursor::new(lines)),
                        ));
                    }
                    // One of several may restart; the others are shown meanwhile.
                    Err(error) if self.once => return Err(error),
                    Err(error) => gateway.complain(&error)?,
                }
            }
            self.show(Reader::streams(inputs), filter.as_ref(), &mut chain)?;
            if self.once {
                return Ok(ExitCode::SUCCESS);
            }
            thread::sleep(ASK_EVERY);
        }
    }

    fn show(
        &self,
        mut reader: Reader,
        filter: Option<&Filter>,
        chain: &mut EventChain,
    ) -> anyhow::Result<()> {
        let mut stdout = output::stdout();
        let zone = TimeZone::system();
        let several = self.admin.len() > 1;
        reader.try_each(|line| {
            if let Some(filter) = filter {
                let json = serde_json::from_slice(line.json)?;
                if !filter.holds(&json) {
                    return anyhow::Ok(());
                }
            }
            match self.output {
                Format::Json => {
                    stdout.write_all(line.json)?;
                    writeln!(stdout)?;
                    return Ok(());
                }
                Format::Yaml => {
                    let record: serde_json::Value = serde_json::from_slice(line.json)?;
                    write!(stdout, "---\n{}", answer::yaml(&record)?)?;
                    return Ok(());
                }
                Format::Ocsf => {
                    stdout.write_all(&ocsf::events(line.json, chain))?;
                    return Ok(());
                }
                Format::Markdown => write!(stdout, "- ")?,
                _ => {}
            }
            let from = if several {
                format!("{} ", line.file)
            } else {
                String::new()
            };
            writeln!(stdout, "{from}{}", escaped(&brief(&line.entry, &zone)))?;
            Ok(())
        })?;
        stdout.flush()?;
        Ok(())
    }
}

impl Followed {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            next: 0,
            failed: None,
        }
    }

    fn complain(&mut self, error: &anyhow::Error) -> anyhow::Result<()> {
        let said = format!("{error:#}");
        if self.failed.as_ref() != Some(&said) {
            super::report::warning(&said)?;
            self.failed = Some(said);
        }
        Ok(())
    }
}
