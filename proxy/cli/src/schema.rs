//! `countersign schema`: the JSON Schema of the resources, and their definitions for a cluster.

use std::{io::Write, process::ExitCode};

use clap::Args;
use countersign_config::{resource::Kind, schema};
use countersign_controller::crd;

use super::output;

/// Prints the JSON Schema of all kinds, or of one.
#[derive(Debug, Args)]
pub(super) struct SchemaCommand {
    /// Workload, TargetService, Credential, AccessPolicy or Gateway.
    #[arg(value_name = "KIND", value_parser = kind)]
    kind: Option<Kind>,
    /// Print the definitions of the kinds for a cluster instead, for `kubectl apply --server-side -f -`.
    #[arg(long)]
    crds: bool,
}

impl SchemaCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let text = if self.crds {
            definitions(self.kind)?
        } else {
            let schema = match &self.kind {
                None => schema::all(),
                Some(kind) => schema::kind(*kind),
            };
            format!("{}\n", serde_json::to_string_pretty(&schema)?)
        };
        write!(output::stdout(), "{text}")?;
        Ok(ExitCode::SUCCESS)
    }
}

fn definitions(kind: Option<Kind>) -> anyhow::Result<String> {
    let definitions = match kind {
        None => crd::all(),
        Some(kind) => match crd::definition(kind) {
            Some(definition) => vec![definition],
            None => anyhow::bail!(
                "a {kind} is a file, and not an object of a cluster: it has no definition"
            ),
        },
    };
    let documents = definitions.iter().map(crd::yaml);
    let documents = documents.collect::<Result<Vec<_>, _>>()?;
    Ok(documents.join("---\n"))
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::ALL
        .into_iter()
        .find(|kind| kind.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| format!("there are {}", Kind::ALL.map(Kind::name).join(", ")))
}
