//! Prints findings, in the same way for every command.

use std::{
    io::{self, ErrorKind, IsTerminal, Write},
    process::ExitCode,
};

use countersign_config::{problem::Problems, shown::escaped};

use super::answer;

/// Prints findings to standard error; the exit code is that of a failure if any is an error.
pub(super) fn problems(problems: &Problems) -> anyhow::Result<ExitCode> {
    to_stderr(problems)?;
    Ok(if problems.any_error() {
        answer::failed()
    } else {
        ExitCode::SUCCESS
    })
}

/// Prints a warning that belongs to no file to standard error.
pub(super) fn warning(text: &str) -> anyhow::Result<()> {
    written(writeln!(
        anstream::stderr().lock(),
        "warning: {}",
        escaped(text)
    ))
}

/// Prints findings to standard error. They count even if nobody reads them.
pub(super) fn to_stderr(problems: &Problems) -> anyhow::Result<()> {
    if problems.0.is_empty() {
        return Ok(());
    }
    let styled = io::stderr().is_terminal();
    let text = problems.render(styled);
    written(writeln!(anstream::stderr().lock(), "{text}"))
}

/// A closed standard error is no error.
fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
