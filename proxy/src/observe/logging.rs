//! The process log: what the gateway says of itself, on standard error. Decisions are not here.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use super::redact::RedactingWriter;

/// What is logged when `RUST_LOG` says nothing.
const DEFAULT_FILTER: &str = "warn,countersign=info";

/// How the process log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why the process log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `RUST_LOG` does not parse.
    #[error("RUST_LOG is not a filter such as `info,countersign=debug`")]
    Filter(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another log is there already.
    #[error("the process log is set up already")]
    Taken,
}

/// Sets up the process log. Call it once, first thing in `main`.
pub fn init(format: LogFormat) -> Result<(), LoggingError> {
    init_from(DEFAULT_FILTER, format)
}

/// The same for a command that shares its terminal with another: warnings only, unless
/// `RUST_LOG` says otherwise.
pub fn init_quiet(format: LogFormat) -> Result<(), LoggingError> {
    init_from("warn", format)
}

fn init_from(default: &str, format: LogFormat) -> Result<(), LoggingError> {
    let filter = filter(std::env::var_os("RUST_LOG"), default)?;
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(RedactedStderr)
        .with_ansi(io::stderr().is_terminal());
    let done = if json {
        let subscriber = builder.json().flatten_event(true).with_current_span(false);
        tracing::subscriber::set_global_default(subscriber.finish())
    } else {
        tracing::subscriber::set_global_default(builder.finish())
    };
    done.map_err(|_| LoggingError::Taken)
}

fn filter(written: Option<std::ffi::OsString>, default: &str) -> Result<EnvFilter, LoggingError> {
    let written = match written {
        None => return Ok(EnvFilter::new(default)),
        Some(written) => written
            .into_string()
            .map_err(|_| LoggingError::Filter("it is not UTF-8".into()))?,
    };
    EnvFilter::builder()
        .parse(written)
        .map_err(|error| LoggingError::Filter(error.into()))
}

/// Standard error, with whatever looks like a credential taken out of each event.
#[derive(Debug, Clone, Copy)]
struct RedactedStderr;

impl MakeWriter<'_> for RedactedStderr {
    type Writer = RedactingWriter<io::Stderr>;

    fn make_writer(&self) -> Self::Writer {
        RedactingWriter(io::stderr())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(None, true)]
    #[case(Some("debug"), true)]
    #[case(Some("warn,countersign::forward=trace"), true)]
    #[case(Some("countersign=loud"), false)]
    fn a_filter_that_does_not_parse_is_an_error(#[case] written: Option<&str>, #[case] ok: bool) {
        assert_eq!(filter(written.map(Into::into), DEFAULT_FILTER).is_ok(), ok);
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(piece);
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_shows_no_token_and_stays_json() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_writer(move || RedactingWriter(writer.clone()))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(
                header = "Bearer canary-canary",
                "sent xoxb-1234567890-canary\u{1b}[0m"
            );
        });
        let written = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let event: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(event["fields"]["header"], "[redacted]");
        assert!(!written.contains("canary"), "{written}");
        assert!(!written.contains('\u{1b}'), "{written}");
    }
}
