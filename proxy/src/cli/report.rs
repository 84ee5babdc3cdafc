//! Printing findings, the same way for every command.

use std::{
    io::{self, IsTerminal, Write},
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

/// Prints findings to standard error.
pub(super) fn to_stderr(problems: &Problems) -> anyhow::Result<()> {
    if problems.0.is_empty() {
        return Ok(());
    }
    let mut stderr = anstream::stderr().lock();
    let styled = io::stderr().is_terminal();
    writeln!(stderr, "{}", problems.render(styled))?;
    Ok(())
}
