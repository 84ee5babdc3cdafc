//! `countersign test`: whether policy decides as its operators expect.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;
use countersign_config::shown::escaped;
use countersign_core::clock::Clock;
use countersign_insight::expect;
use jiff::Timestamp;

use super::{
    answer::{self, Format},
    diff::revision,
    files::Listed,
};

/// Decides the requests in a file and compares with what is expected, for a CI of policies. Exit code 0 if all is as
/// expected, 1 if not, 2 if the file or the resources have mistakes.
#[derive(Debug, Args)]
pub(super) struct TestCommand {
    /// A file of expectations.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A directory or file of resources.
    #[arg(long, value_name = "DIR")]
    resources: PathBuf,
    /// The time of requests that name none, as in RFC 3339. Default: now.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// The format of the output.
    #[arg(short, long, value_parser = answer::formats(&[Format::Junit]), default_value = "table")]
    output: Format,
}

impl TestCommand {
    pub(super) fn run(self) -> ExitCode {
        answer::or_failure(self.test())
    }

    fn test(self) -> anyhow::Result<ExitCode> {
        let loaded = revision(&self.resources)?;
        let file = self.file.display().to_string();
        let text =
            fs::read_to_string(&self.file).with_context(|| format!("{file} cannot be read"))?;
        let at = self.at.unwrap_or_else(|| Clock::system().now());
        let results = match expect::run(&loaded.policies, &text, at) {
            Ok(results) => results,
            Err(mistakes) => {
                let lines = mistakes.iter().map(|mistake| {
                    let expect::Mistake {
                        line,
                        column,
                        message,
                    } = mistake;
                    escaped(&format!("{file}:{line}:{column}: {message}")).into_owned()
                });
                let lines = lines.collect::<Vec<_>>().join("\n");
                return Err(Listed(format!("the expectations have mistakes:\n\n{lines}")).into());
            }
        };
        if self.output == Format::Junit {
            answer::show(&results.junit(&escaped(&file)))?;
        } else {
            answer::print(
                self.output,
                || results.text(&file),
                || results.markdown(&file),
                || results.json(&file),
            )?;
        }
        Ok(answer::findings(results.failures() > 0))
    }
}
