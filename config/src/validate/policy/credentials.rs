//! What fills the slots of a policy's target.

use std::sync::Arc;

use super::{super::head::Parsed, References};
use crate::{
    model::{Credential, Provider, ResourceName, SlotName, Target},
    resource::AccessPolicySpec,
    yaml::{Findings, Location, read::did_you_mean},
};

/// The slot for Slack's user tokens.
const USER_SLOT: &str = "user";

pub(super) fn credentials(
    written: &Parsed<'_, AccessPolicySpec>,
    target: Option<&Target>,
    known: &References<'_>,
    findings: &Findings,
) -> Option<Vec<(SlotName, Arc<Credential>)>> {
    let spec = &written.spec;
    let location = written.location();
    let check = |reference: &str, location: &Location<'_>| {
        let namespace = written.namespace();
        if known.object.is_some() && !may_be_named(reference, namespace, known) {
            not_for(reference, namespace, location, findings);
            return None;
        }
        let credential = known
            .credentials
            .resolve(reference, namespace, location, findings)?;
        usable_here(credential, namespace, &spec.target, location, findings)
            .then(|| Arc::clone(credential))
    };
    match (&spec.credential, &spec.credentials) {
        (None, None) => Some(Vec::new()),
        (Some(reference), None) => {
            let location = location.key("credential");
            let credential = check(reference, &location)?;
            let filled = vec![(target?.slots.default.clone(), credential)];
            revokes_no_bot(&filled, |_| location, findings).then_some(filled)
        }
        (None, Some(by_slot)) => {
            let location = location.key("credentials");
            let mut filled = Vec::new();
            for (slot, reference) in by_slot {
                let credential = check(reference, &location.key(slot));
                let slot = target.and_then(|target| self::slot(slot, target, &location, findings));
                filled.extend(slot.zip(credential));
            }
            let sound = revokes_no_bot(&filled, |slot| location.key(slot), findings);
            (sound && filled.len() == by_slot.len()).then_some(filled)
        }
        (Some(_), Some(_)) => {
            findings.error(
                &location.key_name("credential"),
                "conflicting-keys",
                "`credential` and `credentials` cannot be used together",
                "keep `credentials`, with one entry per slot",
            );
            None
        }
    }
}

/// Whether a policy of this namespace may know of the credential. One of another namespace that is not allowed here
/// is the same as none: its name is the other tenant's.
fn may_be_named(reference: &str, namespace: &str, known: &References<'_>) -> bool {
    let Some((other, name)) = reference.split_once('/') else {
        return true;
    };
    let credential = known
        .credentials
        .get(&ResourceName::namespaced(other, name));
    let allows = |credential: &Arc<Credential>| {
        let mut allowed = credential.allowed_namespaces.iter();
        allowed.any(|allowed| allowed == namespace)
    };
    other == namespace || credential.is_some_and(allows)
}

fn not_for(reference: &str, namespace: &str, location: &Location<'_>, findings: &Findings) {
    findings.error(
        location,
        "credential-not-allowed",
        format!("there is no Credential `{reference}` that the namespace `{namespace}` may use"),
        format!("use one of this namespace, or ask for `{namespace}` in its `allowedNamespaces`"),
    );
}

/// Slack revokes a bot token by deactivating the bot user, which removes it from its channels. So no
/// credential for a bot may be revoked when idle. The slot that it fills tells whose token it will be.
fn revokes_no_bot<'s>(
    filled: &[(SlotName, Arc<Credential>)],
    location: impl Fn(&str) -> Location<'s>,
    findings: &Findings,
) -> bool {
    let mut sound = true;
    for (slot, credential) in filled {
        let rotates = matches!(credential.provider, Provider::SlackRotation { .. });
        let is_users = |(slot, other): &(SlotName, Arc<Credential>)| {
            **slot == *USER_SLOT && other.name == credential.name
        };
        if rotates && credential.revoke_when_idle && !filled.iter().any(is_users) {
            sound = false;
            findings.error(
                &location(slot),
                "revokes-bot",
                format!(
                    "`{}` has `revokeWhenIdle`, and revoking a bot token (`auth.revoke`) deactivates the bot user and removes it from its channels",
                    credential.name
                ),
                "remove `revokeWhenIdle`; it is for a user token, which fills the slot `user`",
            );
        }
    }
    sound
}

fn slot(
    slot: &str,
    target: &Target,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<SlotName> {
    let found = target.slots.names.iter().find(|name| ***name == *slot);
    if found.is_none() {
        findings.error(
            &location.key_name(slot),
            "unknown-slot",
            format!("the target `{}` has no slot `{slot}`", target.name),
            did_you_mean(slot, target.slots.names.iter().map(|name| &**name)),
        );
    }
    found.cloned()
}

/// Whether a credential may be used by policies of this namespace, for this target.
fn usable_here(
    credential: &Credential,
    namespace: &str,
    target: &str,
    location: &Location<'_>,
    findings: &Findings,
) -> bool {
    let allowed = credential
        .allowed_namespaces
        .iter()
        .any(|allowed| allowed == namespace);
    if !allowed {
        findings.error(
            location,
            "credential-not-allowed",
            format!(
                "the credential `{}` may not be used in the namespace `{namespace}`",
                credential.name
            ),
            format!("use another, or add `{namespace}` to its `allowedNamespaces`"),
        );
    }
    let same_target = credential.target == ResourceName::cluster_wide(target);
    if !same_target {
        findings.error(
            location,
            "credential-of-other-target",
            format!(
                "the credential `{}` is for the target `{}`, but the policy is for `{target}`",
                credential.name, credential.target
            ),
            "use a credential of the policy's own target",
        );
    }
    allowed && same_target
}
