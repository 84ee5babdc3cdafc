//! The command: starts it, forwards signals, waits for it.

use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
};

use anyhow::Context;
use countersign_config::shown::escaped;
use countersign_core::{files, reaper};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

/// Runs `command` with `variables` added to our own environment, and returns its exit code. For a
/// command ended by a signal this is 128 plus the signal's number, as in shells.
pub(super) async fn run(
    command: &[OsString],
    variables: Vec<(&'static str, String)>,
) -> anyhow::Result<ExitCode> {
    let (program, arguments) = command.split_first().context("no command was given")?;
    // Installed before the command starts, so that no signal is lost, or ends us first.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    reaper::start();
    let mut command = Command::new(program);
    let (mut child, _awaited) = match reaper::spawn(command.args(arguments).envs(variables)) {
        Ok(started) => started,
        Err(error) => return not_started(program, &error),
    };
    let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    // A terminal also sends Ctrl-C to the command, and many programs treat a second one as "stop at
    // once".
    let from_terminal = io::stdin().is_terminal();
    let status = loop {
        let sent = tokio::select! {
            status = child.wait() => break status?,
            _ = interrupt.recv() => (!from_terminal).then_some(Signal::INT),
            _ = terminate.recv() => Some(Signal::TERM),
            _ = hangup.recv() => Some(Signal::HUP),
        };
        if let (Some(pid), Some(sent)) = (pid, sent)
            && let Err(error) = kill_process(pid, sent)
        {
            // It has just ended: the next iteration of the loop notices.
            tracing::debug!(%error, "the signal could not be forwarded");
        }
    };
    Ok(exit_code(status))
}

/// A shell's exit codes for a command that cannot be run.
fn not_started(program: &OsString, error: &io::Error) -> anyhow::Result<ExitCode> {
    let code = match error.kind() {
        io::ErrorKind::NotFound => 127,
        io::ErrorKind::PermissionDenied => 126,
        _other => anyhow::bail!(
            "{} cannot be run: {}",
            program.display(),
            files::reason(error)
        ),
    };
    // The exit code counts even if nobody reads the message.
    let _unread = writeln!(
        io::stderr(),
        "countersign: {} cannot be run: {}",
        escaped(&program.to_string_lossy()),
        files::reason(error)
    );
    Ok(ExitCode::from(code))
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    // Unix exit codes have eight bits; a value that does not fit is still a failure.
    ExitCode::from(
        code.and_then(|code| u8::try_from(code).ok())
            .unwrap_or(u8::MAX),
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::success("exit 0", 0)]
    #[case::failure("exit 42", 42)]
    #[case::signal("kill -TERM $$", 143)]
    #[case::variables("test \"$HTTPS_PROXY\" = http://p", 0)]
    #[tokio::test]
    async fn the_exit_code_is_the_commands(#[case] script: &str, #[case] expected: u8) {
        let command = ["sh", "-c", script].map(OsString::from);
        let code = run(&command, vec![("HTTPS_PROXY", "http://p".into())])
            .await
            .unwrap();
        assert_eq!(code, ExitCode::from(expected));
    }

    #[tokio::test]
    async fn a_command_that_is_not_there_is_127() {
        let code = run(&["/no/such/command".into()], Vec::new()).await.unwrap();
        assert_eq!(code, ExitCode::from(127));
    }
}
