//! `countersign test`: whether policy decides as its operators expect.

use std::{fs, io::Write, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, ValueEnum};
use countersign_config::shown::escaped;
use countersign_core::clock::Clock;
use countersign_insight::expect;
use jiff::Timestamp;

use super::{
    answer::{self, Format},
    diff::revision,
    files::Listed,
    output,
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
    #[arg(short, long, value_enum, default_value_t = TestFormat::Table)]
    output: TestFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TestFormat {
    /// Text for a person.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Markdown, for a comment on a change.
    Markdown,
    /// XML for a CI server.
    Junit,
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
        let print = |format| {
            let text = || results.text(&file);
            answer::print(
                format,
                text,
                || results.markdown(&file),
                || results.json(&file),
            )
        };
        match self.output {
            TestFormat::Table => print(Format::Table)?,
            TestFormat::Json => print(Format::Json)?,
            TestFormat::Yaml => print(Format::Yaml)?,
            TestFormat::Markdown => print(Format::Markdown)?,
            TestFormat::Junit => {
                let mut stdout = output::stdout();
                write!(stdout, "{}", results.junit(&escaped(&file)))?;
                stdout.flush()?;
            }
        }
        Ok(answer::findings(results.failures() > 0))
    }
}
