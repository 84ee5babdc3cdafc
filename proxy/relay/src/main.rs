//! The `countersign-relay` binary: `countersign relay` without the other commands.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use countersign_relay::command::RelayCommand;
use countersign_types::shown::{escaped, without_numbers};

#[derive(Debug, Parser)]
#[command(name = "countersign-relay", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    relay: RelayCommand,
}

fn main() -> ExitCode {
    Cli::parse().relay.run().unwrap_or_else(|error| {
        let error = format!("{error:#}");
        let error = without_numbers(&error);
        // Standard error may be closed.
        drop(writeln!(std::io::stderr(), "Error: {}", escaped(&error)));
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn it_takes_what_the_command_takes_and_says_what_it_is() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        let help = command.render_long_help().to_string();
        for word in ["Tunnels the pod's connections", "--gateway", "--token-file"] {
            assert!(help.contains(word), "{word}\n{help}");
        }
    }
}
