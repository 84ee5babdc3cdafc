//! `observe.console`: who may open the console.

use std::path::PathBuf;

use super::super::fields::non_blank;
use crate::{
    host::Host,
    model::Console,
    resource::ConsoleSpec,
    yaml::{Findings, Location},
};

/// The console, or that there is none; `None` if what is written cannot be used.
#[allow(
    clippy::option_option,
    reason = "that there is none, and that it is wrong, are different"
)]
pub(super) fn console(
    spec: Option<&ConsoleSpec>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Option<Console>> {
    let Some(spec) = spec else {
        return Some(Some(Console::default()));
    };
    let token_file = match &spec.token_file {
        None => Some(None),
        Some(file) => {
            non_blank(file, &location.key("tokenFile"), findings).map(|file| Some(file.into()))
        }
    };
    let hosts = hosts(spec, &location.key("hosts"), findings);
    let (token_file, hosts): (Option<PathBuf>, _) = (token_file?, hosts?);
    let mut sound = true;
    if !hosts.is_empty() && token_file.is_none() {
        findings.error(
            &location.key("hosts"),
            "console-without-token",
            "whoever reaches the admin endpoint could read the console",
            "add `tokenFile` with a token of at least 20 characters, or remove `hosts`",
        );
        sound = false;
    }
    if !hosts.is_empty() && spec.plaintext.is_none() {
        findings.error(
            &location.key("hosts"),
            "console-in-clear",
            "the admin endpoint has no TLS: the console's token and pages would pass in clear",
            "put a proxy with TLS before it and add `plaintext: allowed`, or remove `hosts` and use `kubectl port-forward`",
        );
        sound = false;
    }
    let enabled = spec.enabled.unwrap_or(true);
    sound.then(|| enabled.then_some(Console { token_file, hosts }))
}

fn hosts(spec: &ConsoleSpec, location: &Location<'_>, findings: &Findings) -> Option<Vec<Host>> {
    let mut hosts = Vec::new();
    let mut sound = true;
    let written = spec.hosts.iter().flatten().enumerate();
    for (index, text) in written {
        match Host::parse(text) {
            Ok(host) => hosts.push(host),
            Err(error) => {
                findings.error(
                    &location.index(index),
                    "invalid-host",
                    format!("this is no host name: {error}"),
                    "write a name such as `console.example.com`, without a port",
                );
                sound = false;
            }
        }
    }
    sound.then_some(hosts)
}
