//! `countersign schema`: the JSON Schema of the resources, and their definitions for a cluster.

mod catalog;
mod reference;

use std::{io::Write, process::ExitCode};

use clap::Args;
use countersign_config::{closest, resource::Kind, schema};
use countersign_controller::crd;

use super::{
    answer::{self, Format},
    output,
};

/// Prints the JSON Schema of all kinds, or of one.
#[derive(Debug, Args)]
pub(super) struct SchemaCommand {
    /// Workload, TargetService, Credential, AccessPolicy or Gateway.
    #[arg(value_name = "KIND", value_parser = kind)]
    kind: Option<Kind>,
    /// Print the definitions of the kinds for a cluster instead, for `kubectl apply --server-side -f -`.
    #[arg(long)]
    crds: bool,
    /// Print the targets of the catalog instead.
    #[arg(long, conflicts_with_all = ["kind", "crds"])]
    catalog: bool,
    /// The format of the output. Default: JSON, and YAML for --crds and --catalog. Markdown is the reference for people.
    #[arg(short, long, value_parser = answer::of_these(&[Format::Json, Format::Yaml, Format::Markdown]))]
    output: Option<Format>,
}

impl SchemaCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let text = if self.catalog {
            match self.output {
                Some(Format::Markdown) => catalog::page()?,
                Some(Format::Json) => anyhow::bail!("the catalog is YAML or Markdown"),
                _ => catalog::source(),
            }
        } else if self.crds {
            definitions(self.kind, self.output)?
        } else {
            let schema = match &self.kind {
                None => schema::all(),
                Some(kind) => schema::kind(*kind),
            };
            match self.output {
                Some(Format::Yaml) => answer::yaml(&schema)?,
                Some(Format::Markdown) => reference::page(self.kind),
                _ => format!("{}\n", serde_json::to_string_pretty(&schema)?),
            }
        };
        write!(output::stdout(), "{text}")?;
        Ok(ExitCode::SUCCESS)
    }
}

fn definitions(kind: Option<Kind>, output: Option<Format>) -> anyhow::Result<String> {
    let definitions = match kind {
        None => crd::all(),
        Some(kind) => match crd::definition(kind) {
            Some(definition) => vec![definition],
            None => anyhow::bail!(
                "a {kind} is a file, and not an object of a cluster: it has no definition"
            ),
        },
    };
    match output {
        Some(Format::Markdown) => anyhow::bail!("--crds are JSON or YAML"),
        Some(Format::Json) => {
            let list =
                serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": definitions });
            return answer::json(&list);
        }
        _ => {}
    }
    let documents = definitions.iter().map(crd::yaml);
    let documents = documents.collect::<Result<Vec<_>, _>>()?;
    Ok(documents.join("---\n"))
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::ALL
        .into_iter()
        .find(|kind| kind.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| {
            let close = closest(text, Kind::ALL.map(Kind::name));
            let hint = close.map(|close| format!("; did you mean {close}?"));
            let names = Kind::ALL.map(Kind::name).join(", ");
            format!("there are {names}{}", hint.unwrap_or_default())
        })
}
