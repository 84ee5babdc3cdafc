//! What people type: one file a command.

pub mod ca;
mod check;
mod credentials;
pub mod environment;
mod exec;
mod explain;
mod files;
pub mod open_files;
mod output;
mod relay;
mod report;
mod run;
mod schema;
mod steer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Carry a pod's connections to a gateway.
    Relay(relay::RelayCommand),
    /// Send a pod's connections to its relay, by firewall rules.
    Steer(steer::SteerCommand),
    /// Check resources: every problem at once, with its place and remedy.
    Check(check::CheckCommand),
    /// Say how a request would be decided, and why.
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

impl Cli {
    /// Runs the command. One whose output nobody reads to its end stops there, without a word.
    ///
    /// # Errors
    /// When it cannot be carried out; a command that only found something to complain of says so
    /// by its exit code.
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
            Self::Steer(command) => command.run(),
            Self::Check(command) => command.run(),
            Self::Explain(command) => command.run(),
            Self::Credentials(command) => command.run(),
            Self::Exec(command) => command.run(),
            Self::Ca(command) => command.run(),
            Self::Schema(command) => command.run(),
        }
    }
}
