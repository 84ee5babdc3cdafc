//! Standard output, which its reader may close early: `countersign schema | head`. That is normal, so it
//! is not reported as an error.

use std::{
    error::Error,
    fmt,
    io::{self, ErrorKind, StdoutLock, Write},
    process::ExitCode,
};

/// The exit code that a shell reports for a command ended by SIGPIPE: 128 plus the signal's number.
const ENDED_BY_PIPE: u8 = 141;

/// Standard output without the styles that its reader cannot show.
pub(super) fn stdout() -> Output<anstream::AutoStream<StdoutLock<'static>>> {
    Output(anstream::stdout().lock())
}

/// Standard output for arbitrary bytes.
pub(super) fn raw_stdout() -> Output<StdoutLock<'static>> {
    Output(io::stdout().lock())
}

/// How many columns the terminal has that standard output is.
pub(super) fn width() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(size.ws_col).filter(|columns| *columns > 0)
}

/// The exit code of a command whose reader closed the output; `None` for all other errors.
pub(super) fn exit_code(error: &anyhow::Error) -> Option<ExitCode> {
    let closed = |cause: &(dyn Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>();
        io.and_then(io::Error::get_ref)
            .is_some_and(<dyn Error + Send + Sync>::is::<Closed>)
    };
    error
        .chain()
        .any(closed)
        .then(|| ExitCode::from(ENDED_BY_PIPE))
}

/// Marks a closed pipe as this output's, because others, such as a connection, close too.
pub(super) struct Output<W>(W);

/// The reader closed the output.
#[derive(Debug)]
struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader closed the output")
    }
}

impl Error for Closed {}

fn mark_pipe_error(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::BrokenPipe => io::Error::new(ErrorKind::BrokenPipe, Closed),
        _other => error,
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(mark_pipe_error)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(mark_pipe_error)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    /// A pipe whose other end is closed.
    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    fn failed(kind: ErrorKind) -> anyhow::Error {
        let written = writeln!(Output(Broken(kind)), "text");
        written.context("while it was said").unwrap_err()
    }

    #[test]
    fn only_an_output_that_nobody_reads_is_no_error() {
        assert_eq!(
            exit_code(&failed(ErrorKind::BrokenPipe)),
            Some(ExitCode::from(141))
        );
        assert_eq!(exit_code(&failed(ErrorKind::StorageFull)), None);
        // A broken connection is an error to report.
        let other = io::Error::from(ErrorKind::BrokenPipe);
        assert_eq!(exit_code(&other.into()), None);
    }
}
