//! Prints findings, in the same way for every command.

use std::{
    io::{self, ErrorKind, IsTerminal, Write},
    process::ExitCode,
};

use countersign_config::problem::Problems;

/// Prints findings to standard error; the exit code says whether any is an error.
pub(super) fn problems(problems: &Problems) -> anyhow::Result<ExitCode> {
    to_stderr(problems)?;
    Ok(if problems.any_error() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Prints findings to standard error. They count even if nobody reads them.
pub(super) fn to_stderr(problems: &Problems) -> anyhow::Result<()> {
    if problems.0.is_empty() {
        return Ok(());
    }
    let styled = io::stderr().is_terminal();
    let written = writeln!(anstream::stderr().lock(), "{}", problems.render(styled));
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
