//! The process log: the gateway's own messages, on standard error. Decision records are separate.
//!
//! Code that logs puts a line into a bounded queue and continues; a separate thread writes it. The
//! number of lines from each place in the code is limited too, whatever a peer does.

mod limiter;
mod queue;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal},
    panic,
    sync::LazyLock,
    thread,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _};

use self::{limiter::LineLimiter, queue::Queue};

/// The filter without `RUST_LOG`. The prefix matches all our crates. Warnings of libraries mostly repeat
/// what a peer sent.
const DEFAULT_FILTER: &str = "error,countersign=info";

/// The same for a command that shares its terminal with another program.
const QUIET_FILTER: &str = "error,countersign=warn";

/// The time limit for writing the last lines.
const FLUSH: Duration = Duration::from_secs(2);

/// Counts of lines that were not written. There is one log per process.
#[derive(Debug, Default)]
pub struct Counts {
    /// Lost because the queue was full or standard error cannot be written.
    pub dropped: Counter,
    /// Left out because one place in the code logged too much.
    pub(super) suppressed: Counter,
}

/// The counts of this process.
pub(super) static COUNTS: LazyLock<Counts> = LazyLock::new(Counts::default);

/// How the process log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Why the process log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `RUST_LOG` does not parse.
    #[error("RUST_LOG is not a filter such as `info,countersign=debug`")]
    Filter(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another log is already installed.
    #[error("the process log is already installed")]
    Taken,
    /// The thread could not be started.
    #[error("the process log's thread cannot be started")]
    Thread(#[source] io::Error),
}

/// Writes the last lines when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the log"]
pub struct LogGuard(Queue);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush(FLUSH);
    }
}

/// Installs the process log. Call it once, first in `main`.
pub fn init(format: LogFormat) -> Result<LogGuard, LoggingError> {
    init_from(DEFAULT_FILTER, format)
}

/// The same for a command that shares its terminal with another program: only warnings, unless
/// `RUST_LOG` says otherwise.
pub fn init_quiet(format: LogFormat) -> Result<LogGuard, LoggingError> {
    init_from(QUIET_FILTER, format)
}

fn init_from(default: &str, format: LogFormat) -> Result<LogGuard, LoggingError> {
    let filter = filter(std::env::var_os("RUST_LOG"), default)?;
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let limiter = LineLimiter::new(COUNTS.suppressed.clone());
    let telling = limiter.clone();
    let report = move |lost| report_lost(lost, &telling);
    let queue =
        Queue::start(io::stderr(), COUNTS.dropped.clone(), report).map_err(LoggingError::Thread)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(queue.clone())
        .with_ansi(io::stderr().is_terminal());
    let done = if json {
        let subscriber = builder.json().flatten_event(true).with_current_span(false);
        tracing::subscriber::set_global_default(subscriber.finish().with(limiter))
    } else {
        tracing::subscriber::set_global_default(builder.finish().with(limiter))
    };
    done.map_err(|_| LoggingError::Taken)?;
    panic::set_hook(Box::new(log_panic));
    Ok(LogGuard(queue))
}

/// Reports lines that are missing from the log.
fn report_lost(lost: u64, limiter: &LineLimiter) {
    if lost > 0 {
        tracing::warn!(
            lost,
            "lines of the process log were lost: standard error was not read in time"
        );
    }
    for left_out in limiter.take_left_out() {
        let place = format_args!("{}:{}", left_out.target, left_out.line);
        tracing::warn!(%place, count = left_out.count, "one place in the code logged too many lines; the rest were left out");
    }
}

/// Reports a panic through the log; the standard hook would block on standard error.
fn log_panic(panicked: &panic::PanicHookInfo<'_>) {
    let message = panicked.payload_as_str().unwrap_or("no message");
    let place = panicked.location().map(ToString::to_string);
    let thread = thread::current();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    tracing::error!(
        place,
        thread = thread.name(),
        backtrace = backtrace.map(tracing::field::display),
        "panicked: {message}"
    );
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use rstest::rstest;
    use tracing::Level;
    use tracing_subscriber::filter::Targets;

    use super::*;

    #[rstest]
    #[case(None, true)]
    #[case(Some("debug"), true)]
    #[case(Some("warn,countersign_upstream::forward=trace"), true)]
    #[case(Some("countersign=loud"), false)]
    fn a_filter_that_does_not_parse_is_an_error(#[case] written: Option<&str>, #[case] ok: bool) {
        assert_eq!(filter(written.map(Into::into), DEFAULT_FILTER).is_ok(), ok);
    }

    /// Warnings of libraries repeat what a peer sent: they are not logged by default.
    #[rstest]
    #[case::of_ours("countersign_gateway::app", Level::INFO, true)]
    #[case::of_ours_in_detail("countersign_gateway::app", Level::DEBUG, false)]
    #[case::of_another_crate("countersign_credential::revoke", Level::INFO, true)]
    #[case::of_the_command("countersign::run", Level::INFO, true)]
    #[case::of_a_library("h2::proto::ping_pong", Level::WARN, false)]
    #[case::of_another("hyper::proto::h1", Level::WARN, false)]
    #[case::an_error("hickory_net", Level::ERROR, true)]
    fn the_default_filter(#[case] target: &str, #[case] level: Level, #[case] heard: bool) {
        let filter = DEFAULT_FILTER.parse::<Targets>().unwrap();
        assert_eq!(filter.would_enable(target, &level), heard);
    }

    #[test]
    fn an_event_shows_no_token_and_stays_json() {
        let (mut reader, writer) = io::pipe().unwrap();
        let queue = Queue::start(writer, Counter::default(), |_| ()).unwrap();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_writer(queue.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(
                header = "Bearer canary-canary",
                "sent xoxb-1234567890-canary\u{1b}[0m"
            );
        });
        queue.flush(Duration::from_secs(10));
        drop(queue);
        let mut written = String::new();
        reader.read_to_string(&mut written).unwrap();
        let event: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(event["fields"]["header"], "[redacted]");
        assert!(!written.contains("canary"), "{written}");
        assert!(!written.contains('\u{1b}'), "{written}");
    }
}
