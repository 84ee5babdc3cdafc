//! Targets that are not decrypted: they can have no rules about requests.

use super::super::head::Parsed;
use crate::{
    host::HostPattern,
    model::{RateLimitScope, Slots, Target, TransportFaults},
    path::EncodedSlash,
    resource::TargetServiceSpec,
    yaml::Findings,
};

/// A target with `intercept: false`.
pub(super) fn target(
    written: &Parsed<'_, TargetServiceSpec>,
    hosts: Vec<HostPattern>,
    ports: Vec<u16>,
    findings: &Findings,
) -> Option<Target> {
    let spec = &written.spec;
    let before = findings.errors();
    for (key, given) in [
        ("extends", spec.extends.is_some()),
        ("slots", spec.slots.is_some()),
        ("routes", !spec.routes.is_empty()),
        ("authFailure", !spec.auth_failure.is_empty()),
        ("refusal", spec.refusal.is_some()),
        ("probe", spec.probe.is_some()),
        ("transportFaults", spec.transport_faults.is_some()),
        ("rateLimit", spec.rate_limit.is_some()),
        ("encodedSlash", spec.encoded_slash.is_some()),
        ("traceparent", spec.traceparent.is_some()),
    ] {
        if given {
            findings.error(
                &written.location().key_name(key),
                "not-decrypted",
                format!(
                    "with `intercept: false` requests are not visible, so `{key}` has no effect"
                ),
                "remove it, or remove `intercept: false`",
            );
        }
    }
    (findings.errors() == before).then(|| Target {
        name: written.name.clone(),
        hosts,
        ports,
        intercept: false,
        slots: Slots {
            default: "default".into(),
            names: vec!["default".into()],
        },
        routes: vec![Target::unread_route()],
        auth_failure: Vec::new(),
        refusal: None,
        transport_faults: TransportFaults::Status,
        probe: None,
        rate_limit: RateLimitScope::Credential,
        encoded_slash: EncodedSlash::Refuse,
    })
}
