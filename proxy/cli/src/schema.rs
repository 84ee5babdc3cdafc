//! `countersign schema`: the JSON Schema of the resources.

use std::{io::Write, process::ExitCode};

use clap::Args;
use countersign_config::{resource::Kind, schema};

use super::output;

/// Prints the JSON Schema of all kinds, or of one.
#[derive(Debug, Args)]
pub(super) struct SchemaCommand {
    /// Workload, TargetService, Credential, AccessPolicy or Gateway.
    #[arg(value_name = "KIND", value_parser = kind)]
    kind: Option<Kind>,
}

impl SchemaCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let schema = match &self.kind {
            None => schema::all(),
            Some(kind) => schema::kind(*kind),
        };
        let text = serde_json::to_string_pretty(&schema)?;
        writeln!(output::stdout(), "{text}")?;
        Ok(ExitCode::SUCCESS)
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::ALL
        .into_iter()
        .find(|kind| kind.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| format!("there are {}", Kind::ALL.map(Kind::name).join(", ")))
}
