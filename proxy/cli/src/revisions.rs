//! Where commands find the revisions that a gateway has kept.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use countersign_config::history::{DIRECTORY, Head, LAST_USE, LastUse};
use countersign_insight::history::History;

use super::admin;

/// Where the kept revisions are.
#[derive(Debug)]
pub(super) enum Revisions {
    /// In a gateway's state directory, or its folder of revisions.
    Directory(PathBuf),
    /// At the admin endpoint of one of these gateways.
    Admin(Vec<SocketAddr>),
}

impl Revisions {
    /// The directory, if one is named; else what the gateways have.
    pub(super) fn new(directory: Option<&PathBuf>, admin: &[SocketAddr]) -> Self {
        match directory {
            Some(directory) => Self::Directory(directory.clone()),
            None => Self::Admin(admin.to_vec()),
        }
    }

    /// Those that there are; none if nothing is named, or the gateways keep none.
    ///
    /// # Errors
    /// When a named directory cannot be read or has none.
    pub(super) fn open(&self) -> anyhow::Result<History> {
        match self {
            Self::Directory(directory) => of_directory(directory),
            Self::Admin(gateways) => Ok(gateways
                .iter()
                .find_map(|gateway| of_gateway(*gateway).ok())
                .unwrap_or_else(|| History::new(Vec::new(), |_| Ok(Vec::new())))),
        }
    }
}

impl Revisions {
    /// What the gateways have used, as far as they keep it.
    ///
    /// # Errors
    /// When a file of it cannot be read.
    pub(super) fn last_uses(&self) -> anyhow::Result<Vec<LastUse>> {
        let documents: Vec<Vec<u8>> = match self {
            Self::Directory(directory) => {
                let file = directory.join(LAST_USE);
                match fs::read(&file) {
                    Ok(document) => vec![document],
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                    Err(error) => {
                        return Err(error)
                            .with_context(|| format!("{} cannot be read", file.display()));
                    }
                }
            }
            Self::Admin(gateways) => gateways
                .iter()
                .filter_map(|gateway| Some(admin::get(*gateway, "/last-use").ok()?.to_vec()))
                .collect(),
        };
        let read = documents.iter().map(|document| LastUse::read(document));
        read.collect::<Option<_>>()
            .context("the last uses are not in a form that this version knows")
    }
}

fn of_directory(directory: &Path) -> anyhow::Result<History> {
    let below = directory.join(DIRECTORY);
    let directory = if below.is_dir() { &below } else { directory };
    let shown = directory.display();
    let history =
        History::of_directory(directory).with_context(|| format!("{shown} cannot be read"))?;
    anyhow::ensure!(
        !history.is_empty(),
        "{shown} has no revisions; name the state directory of a gateway (state.directory)"
    );
    Ok(history)
}

fn of_gateway(gateway: SocketAddr) -> anyhow::Result<History> {
    let heads: Vec<Head> = serde_json::from_slice(&admin::get(gateway, "/revisions")?)?;
    let fetch = move |head: &Head| {
        let document = admin::get(gateway, &format!("/revisions/{}", head.digest));
        let document = document.map_err(|error| io::Error::other(format!("{error:#}")))?;
        Ok(document.to_vec())
    };
    Ok(History::new(heads, fetch))
}
