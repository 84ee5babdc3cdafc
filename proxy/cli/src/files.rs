//! Reads configuration files and writes requested files.

use std::{
    fmt,
    fs::Permissions,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use anyhow::Context;
use countersign_config::{
    load::{self, Loaded},
    model::Gateway,
    problem::{Problems, Severity},
};

/// Loads the Gateway file, or reports all its mistakes.
pub(super) fn load_gateway(path: &Path) -> anyhow::Result<Gateway> {
    let (gateway, _warnings) = load::gateway(path)
        .map_err(|problems| unusable(&problems))
        .with_context(|| format!("{} cannot be used", path.display()))?;
    Ok(gateway)
}

/// An error if one of the places has no resources.
pub(super) fn found(loaded: &Loaded) -> anyhow::Result<()> {
    let mut warnings = loaded.warnings.0.iter();
    match warnings.find(|warning| warning.code == load::NOTHING_FOUND) {
        Some(nothing) => Err(anyhow::anyhow!("{nothing}")),
        None => Ok(()),
    }
}

/// All mistakes, as one error; without the warnings, which are none.
pub(super) fn unusable(problems: &Problems) -> anyhow::Error {
    let errors = problems.0.iter();
    let errors = errors.filter(|problem| problem.severity == Severity::Error);
    let errors = Problems(errors.cloned().collect());
    Listed(format!(
        "the configuration has mistakes:\n\n{}",
        errors.render(false)
    ))
    .into()
}

/// An error of several lines, none of which is foreign text alone.
#[derive(Debug)]
pub(super) struct Listed(pub(super) String);

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Listed {}

/// Writes a world-readable file, completely or not at all.
pub(super) fn write_public(path: &Path, contents: &[u8]) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(parent)?;
    // The umask may have removed permissions.
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
