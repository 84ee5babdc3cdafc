//! The mode of a listener, and what it requires of its other keys.

use std::net::SocketAddr;

use crate::{
    model::{ListenerMode, Transparency},
    resource::{ListenerModeSpec, ListenerSpec, TransparencySpec},
    yaml::{Findings, Location},
};

pub(super) fn mode(
    spec: &ListenerSpec,
    address: Option<SocketAddr>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<ListenerMode> {
    match spec.mode {
        None | Some(ListenerModeSpec::Explicit) => {
            if spec.transparency.is_none() {
                return Some(ListenerMode::Explicit);
            }
            findings.error(
                &location.key("transparency"),
                "conflicting-keys",
                "only a transparent listener accepts redirected connections",
                "add `mode: transparent`, or remove `transparency`",
            );
            None
        }
        Some(ListenerModeSpec::Transparent) => {
            let sound = transparent_is_sound(spec, address, location, findings);
            sound.then_some(ListenerMode::Transparent(match spec.transparency {
                None | Some(TransparencySpec::Redirect) => Transparency::Redirect,
                Some(TransparencySpec::Tproxy) => Transparency::Tproxy,
            }))
        }
    }
}

/// Checks the other keys of a transparent listener, and reports every conflict.
fn transparent_is_sound(
    spec: &ListenerSpec,
    address: Option<SocketAddr>,
    location: &Location<'_>,
    findings: &Findings,
) -> bool {
    let mut sound = true;
    if spec.identity.is_none() {
        sound = false;
        findings.error(
            &location.key("mode"),
            "missing-identity",
            "clients that do not know the gateway cannot send it a token",
            "add `identity: { tokenFile: ... }` with the pod's own projected token",
        );
    }
    if spec.tls.is_some() {
        sound = false;
        findings.error(
            &location.key("tls"),
            "conflicting-keys",
            "a transparent listener has no certificate of its own: clients expect that of their destination",
            "remove `tls`, or use `mode: explicit`",
        );
    }
    if spec.plaintext.is_none() && address.is_some_and(|address| !address.ip().is_loopback()) {
        sound = false;
        findings.error(
            &location.key("address"),
            "plaintext-listener",
            "every connection that is routed to this address would act as this pod",
            "listen on 127.0.0.1 or [::1], or confirm with `plaintext: allowed`",
        );
    }
    sound
}
