//! Reading what people configured and writing what they asked for.

use std::{
    fs::Permissions,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use anyhow::Context;
use countersign_config::{load, model::Gateway, problem::Problems};

/// Loads the file that starts a gateway, or says everything that is wrong with it.
pub(super) fn load_gateway(path: &Path) -> anyhow::Result<Gateway> {
    let (gateway, _warnings) = load::gateway(path)
        .map_err(|problems| unusable(&problems))
        .with_context(|| format!("{} cannot be used", path.display()))?;
    Ok(gateway)
}

/// Everything that is wrong, as one error.
pub(super) fn unusable(problems: &Problems) -> anyhow::Error {
    anyhow::anyhow!(
        "the configuration has mistakes:\n\n{}",
        problems.render(false)
    )
}

/// Writes a file that everyone may read, whole or not at all.
pub(super) fn write_public(path: &Path, contents: &[u8]) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(parent)?;
    // The umask may have taken bits away.
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
