//! Applies and removes rules with the system's own tools. Each table changes completely or not at all.

use std::{
    io::{self, Write},
    path::Path,
    process::{Command, Stdio},
};

use countersign_core::files;

use super::{Family, Redirection, iptables, nft};

/// The format of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// An nftables ruleset
    Nft,
    /// Input for iptables-restore and ip6tables-restore
    Iptables,
}

/// Why rules could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The tool cannot be run.
    #[error("{tool} cannot be run: {}", files::reason(source))]
    Missing {
        /// The tool.
        tool: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The tool failed.
    #[error("{tool} failed (it needs the capability NET_ADMIN): {reason}")]
    Failed {
        /// The tool.
        tool: &'static str,
        /// Its error output.
        reason: String,
    },
}

/// Applies the rules; if they are already applied, nothing changes.
///
/// # Errors
/// When the tool is missing or fails; then the rules are unchanged.
pub fn apply(redirection: &Redirection, format: Format) -> Result<(), ApplyError> {
    match format {
        Format::Nft => run("nft", &["-f", "-"], &nft::ruleset(redirection)).map(drop),
        Format::Iptables => {
            for (family, tools) in families() {
                let rules = iptables::rules(redirection, family, present(&tools)?);
                run(tools.restore, &["--noflush"], &rules)?;
            }
            Ok(())
        }
    }
}

/// Removes the rules; if there are none, nothing changes.
///
/// # Errors
/// When the tool is missing or fails.
pub fn remove(format: Format) -> Result<(), ApplyError> {
    match format {
        Format::Nft => run("nft", &["-f", "-"], nft::REMOVE).map(drop),
        Format::Iptables => {
            for (_, tools) in families() {
                let removal = iptables::removal(present(&tools)?);
                run(tools.restore, &["--noflush"], &removal)?;
            }
            Ok(())
        }
    }
}

struct Tools {
    save: &'static str,
    restore: &'static str,
}

/// If the kernel has no IPv6, no traffic uses it, and ip6tables would only fail.
fn families() -> Vec<(Family, Tools)> {
    let mut families = vec![(
        Family::V4,
        Tools {
            save: "iptables-save",
            restore: "iptables-restore",
        },
    )];
    if Path::new("/proc/net/if_inet6").exists() {
        families.push((
            Family::V6,
            Tools {
                save: "ip6tables-save",
                restore: "ip6tables-restore",
            },
        ));
    } else {
        tracing::info!("the kernel has no IPv6: there is nothing to redirect in it");
    }
    families
}

fn present(tools: &Tools) -> Result<iptables::Present, ApplyError> {
    Ok(iptables::Present::read(&run(tools.save, &[], "")?))
}

fn run(tool: &'static str, arguments: &[&str], input: &str) -> Result<String, ApplyError> {
    let missing = |source| ApplyError::Missing { tool, source };
    let mut child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    let written = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(input.as_bytes()),
        None => Ok(()),
    };
    let output = child.wait_with_output().map_err(missing)?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ApplyError::Failed { tool, reason });
    }
    // A tool that succeeded without reading everything has not applied everything.
    written.map_err(missing)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
