//! `countersign completions` and `countersign man`: what shells and `man` know of this command line.

use std::{fs, io::Write, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, output};

/// Prints completions for a shell: `source <(countersign completions bash)`.
#[derive(Debug, Args)]
pub(super) struct CompletionsCommand {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes a manual page for each command, for `man -M DIR` or a package.
#[derive(Debug, Args)]
pub(super) struct ManCommand {
    /// Where the pages go; `man1` is made in it.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl CompletionsCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "countersign", &mut script);
        let mut stdout = output::raw_stdout();
        stdout.write_all(&script)?;
        stdout.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

impl ManCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let pages = self.directory.join("man1");
        let written = fs::create_dir_all(&pages)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &pages));
        written.with_context(|| format!("{} cannot be written", pages.display()))?;
        let count = fs::read_dir(&pages)?.count();
        writeln!(output::stdout(), "{count} pages in {}", pages.display())?;
        Ok(ExitCode::SUCCESS)
    }
}
