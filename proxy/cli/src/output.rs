//! Standard output, which its reader may close before everything is said: `countersign schema | head`.
//! That is the reader's right, and so no error to tell of.

use std::{
    error::Error,
    fmt,
    io::{self, ErrorKind, StdoutLock, Write},
    process::ExitCode,
};

/// What a shell shows for a command that SIGPIPE has ended: 128 and the signal's number.
const ENDED_BY_PIPE: u8 = 141;

/// Standard output without the styles that its reader cannot show.
pub(super) fn stdout() -> Output<anstream::AutoStream<StdoutLock<'static>>> {
    Output(anstream::stdout().lock())
}

/// Standard output for bytes of any kind.
pub(super) fn raw_stdout() -> Output<StdoutLock<'static>> {
    Output(io::stdout().lock())
}

/// The exit code of a command whose output nobody reads any more; `None` for all other errors.
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

/// Says of a closed pipe that it was this output's: others, such as a connection, close too.
pub(super) struct Output<W>(W);

/// Nobody reads the output any more.
#[derive(Debug)]
struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads the output any more")
    }
}

impl Error for Closed {}

fn told(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::BrokenPipe => io::Error::new(ErrorKind::BrokenPipe, Closed),
        _other => error,
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(told)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(told)
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
        // A connection that breaks is worth an error.
        let other = io::Error::from(ErrorKind::BrokenPipe);
        assert_eq!(exit_code(&other.into()), None);
    }
}
