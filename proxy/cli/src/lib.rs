//! The command line: one file per command.

mod admin;
mod answer;
mod audit;
pub mod ca;
mod check;
mod cluster;
mod controller;
mod credentials;
mod diff;
mod doctor;
mod exec;
mod explain;
mod files;
mod logs;
mod output;
mod pages;
mod progress;
mod reasons;
mod receipt;
mod redirect;
mod report;
mod review;
mod revisions;
mod run;
mod schema;
mod subject;
mod tail;
mod test;
mod triage;
#[cfg(feature = "pkcs12")]
mod trust_store;
mod who_can;

pub use countersign_core::environment;

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::{Parser, Subcommand};
use countersign_config::shown::{disturbs_lines, escaped, escaped_lines, without_numbers};

/// Gives pods access to HTTP APIs without giving them secrets.
#[derive(Debug, Parser)]
#[command(
    name = "countersign",
    version,
    about,
    max_term_width = 100,
    after_help = EXIT_CODES
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The same for every command; docs/cli.md has the table.
const EXIT_CODES: &str = "\
Exit codes:
  0    it is done, and nothing was found
  1    something was found: a mistake, a difference, a refusal, a failure that the records tell of
  2    wrong usage, or it could not be done or answered
  141  the reader of the output closed it
`countersign exec` ends with the exit code of its command.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway.
    Run(run::RunCommand),
    /// Tunnel a pod's connections to a gateway.
    Relay(countersign_relay::command::RelayCommand),
    /// Run the controller: the webhook that injects relays into pods.
    Controller(Box<controller::ControllerCommand>),
    /// Look at an installation in a cluster: each line is a verdict and a remedy.
    Doctor(Box<doctor::DoctorCommand>),
    /// Redirect a pod's connections to its relay, with firewall rules.
    #[command(alias = "steer")]
    Redirect(redirect::RedirectCommand),
    /// Check resources: report every problem at once, with its place and remedy.
    Check(check::CheckCommand),
    /// Show how a request would be decided, and why.
    Explain(explain::ExplainCommand),
    /// Show what two revisions permit differently.
    Diff(diff::DiffCommand),
    /// Check that policy decides as its operators expect.
    Test(test::TestCommand),
    /// Show who may make a request: every workload, rule, window and credential.
    WhoCan(who_can::WhoCanCommand),
    /// Review who may reach what, what is used of it, and what is not in order.
    Review(review::ReviewCommand),
    /// Show the credentials that a running gateway holds, never their values.
    Credentials(credentials::CredentialsCommand),
    /// Show decision records as they come, of all gateways at once.
    Tail(tail::TailCommand),
    /// Say why jobs failed: by cause, on whose side it is, what changed before, and what to do.
    Triage(triage::TriageCommand),
    /// Say what a reason code means, whose fault it is, and what to do.
    Reasons(reasons::ReasonsCommand),
    /// Write what one run of a Job called, or check that against the log.
    Receipt(receipt::ReceiptCommand),
    /// Check that a decision log is what the gateway wrote.
    Audit(audit::AuditCommand),
    /// Run one command under a local gateway, with proxy and CA variables set.
    Exec(exec::ExecCommand),
    /// Show or export the interception CA.
    Ca(ca::CaCommand),
    /// Print the JSON Schema of the resources.
    Schema(schema::SchemaCommand),
    /// Print completions of this command line for a shell.
    Completions(pages::CompletionsCommand),
    /// Write manual pages.
    Man(pages::ManCommand),
}

/// Runs this process's command line, and reports errors.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let failed = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli.run(),
        Err(error) => return usage(error, &arguments),
    };
    answer::or_failure(failed)
}

/// An error with all its causes, one per line.
fn error_text(error: &anyhow::Error) -> String {
    let mut causes = error.chain().map(|cause| match cause.downcast_ref() {
        Some(files::Listed(lines)) => escaped_lines(lines.trim_end()).into_owned(),
        None => escaped(&without_numbers(&cause.to_string())).into_owned(),
    });
    let mut text = format!("Error: {}\n", causes.next().unwrap_or_default());
    for (index, cause) in causes.enumerate() {
        if index == 0 {
            text.push_str("\nCaused by:\n");
        }
        text.push_str("    ");
        text.push_str(&cause);
        text.push('\n');
    }
    text
}

/// Reports wrong arguments, which are foreign text; or shows help.
fn usage(error: clap::Error, arguments: &[OsString]) -> ExitCode {
    let shown = arguments
        .iter()
        .map(|argument| escaped(&argument.to_string_lossy()).into_owned());
    let error = Cli::try_parse_from(shown).err().unwrap_or(error);
    let code = u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
    let text = error.render().to_string();
    if !text.contains(disturbs_lines) {
        drop(error.print());
        return code;
    }
    // From the environment, or a text that equals an argument only when it is not escaped.
    drop(write!(
        anstream::stderr().lock(),
        "{}",
        escaped_lines(&text)
    ));
    code
}

impl Cli {
    /// Runs the command. If the reader of its output closes it, the command stops silently.
    ///
    /// # Errors
    /// When it cannot be carried out; a command that only found mistakes reports them by its exit
    /// code.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let done = self.command.run();
        done.or_else(|error| output::exit_code(&error).ok_or(error))
    }
}

impl Command {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Run(command) => command.run(),
            Self::Relay(command) => command.run(),
            Self::Controller(command) => command.run(),
            Self::Doctor(command) => Ok(command.run()),
            Self::Redirect(command) => command.run(),
            Self::Check(command) => Ok(command.run()),
            Self::Explain(command) => Ok(command.run()),
            Self::Diff(command) => Ok(command.run()),
            Self::Test(command) => Ok(command.run()),
            Self::WhoCan(command) => Ok(command.run()),
            Self::Review(command) => Ok(command.run()),
            Self::Credentials(command) => Ok(command.run()),
            Self::Tail(command) => Ok(command.run()),
            Self::Triage(command) => Ok(command.run()),
            Self::Reasons(command) => Ok(command.run()),
            Self::Receipt(command) => Ok(command.run()),
            Self::Audit(command) => Ok(command.run()),
            Self::Exec(command) => command.run(),
            Self::Ca(command) => command.run(),
            Self::Schema(command) => command.run(),
            Self::Completions(command) => command.run(),
            Self::Man(command) => command.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_old_name_of_redirect_stays() {
        let parsed = |name| {
            let line = [
                "countersign",
                name,
                "--apply",
                "--check",
                "--only-port",
                "443",
            ];
            format!("{:?}", Cli::try_parse_from(line).unwrap())
        };
        assert_eq!(parsed("steer"), parsed("redirect"));
    }

    #[test]
    fn t72_an_error_is_told_on_lines_of_its_own_making() {
        let cause = std::io::Error::other("a\nError: forged\u{1b}[2J");
        let error = Err::<(), _>(cause).context("b\u{202e}").unwrap_err();
        let expected = "Error: b\\u{202e}\n\nCaused by:\n    a\\u{a}Error: forged\\u{1b}[2J\n";
        assert_eq!(error_text(&error), expected);
    }
}
