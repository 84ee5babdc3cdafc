//! The `countersign` binary.

use std::process::ExitCode;

use clap::Parser;
use countersign::cli::Cli;

fn main() -> anyhow::Result<ExitCode> {
    Cli::parse().run()
}
