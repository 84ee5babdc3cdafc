//! The command line: one file per command.

pub mod ca;
mod check;
mod credentials;
pub mod environment;
mod exec;
mod explain;
mod files;
mod output;
mod redirect;
mod report;
mod run;
mod schema;
mod subject;
#[cfg(feature = "pkcs12")]
mod trust_store;

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::{Parser, Subcommand};
use countersign_config::shown::{disturbs_lines, escaped, escaped_lines};

/// Gives pods access to HTTP APIs without giving them secrets.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway.
    Run(run::RunCommand),
    /// Tunnel a pod's connections to a gateway.
    Relay(countersign_relay::command::RelayCommand),
    /// Redirect a pod's connections to its relay, with firewall rules.
    #[command(alias = "steer")]
    Redirect(redirect::RedirectCommand),
    /// Check resources: report every problem at once, with its place and remedy.
    Check(check::CheckCommand),
    /// Show how a request would be decided, and why.
    Explain(explain::ExplainCommand),
    /// Show the credentials that a running gateway holds, never their values.
    Credentials(credentials::CredentialsCommand),
    /// Run one command under a local gateway, with proxy and CA variables set.
    Exec(exec::ExecCommand),
    /// Show or export the interception CA.
    Ca(ca::CaCommand),
    /// Print the JSON Schema of the resources.
    Schema(schema::SchemaCommand),
}

/// Runs this process's command line, and reports errors.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let failed = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli.run(),
        Err(error) => return usage(error, &arguments),
    };
    failed.unwrap_or_else(|error| {
        // Standard error may be closed.
        drop(write!(anstream::stderr().lock(), "{}", error_text(&error)));
        ExitCode::FAILURE
    })
}

/// An error with all its causes, one per line.
fn error_text(error: &anyhow::Error) -> String {
    let mut causes = error.chain().map(ToString::to_string);
    let mut text = format!("Error: {}\n", escaped(&causes.next().unwrap_or_default()));
    for (index, cause) in causes.enumerate() {
        if index == 0 {
            text.push_str("\nCaused by:\n");
        }
        text.push_str("    ");
        text.push_str(&escaped(&cause));
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
            Self::Redirect(command) => command.run(),
            Self::Check(command) => command.run(),
            Self::Explain(command) => command.run(),
            Self::Credentials(command) => command.run(),
            Self::Exec(command) => command.run(),
            Self::Ca(command) => command.run(),
            Self::Schema(command) => command.run(),
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
