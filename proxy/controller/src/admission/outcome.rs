//! What becomes of a pod: injected, left alone, or refused; each with its reason.

use serde_json::{Value, json};

use super::settings::Mode;

/// A pod as it is after injection.
#[derive(Debug, Clone, PartialEq)]
pub struct Injection {
    /// The whole pod.
    pub pod: Value,
    /// How its connections come to the relay.
    pub mode: Mode,
    /// Why it has this mode.
    pub because: String,
    /// What the pod's author should know; none keeps the pod from running.
    pub warnings: Vec<String>,
    /// What changes the pod that was sent into this one, as RFC 6902 has it.
    pub patch: Vec<Value>,
}

/// Why a pod is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotInjected {
    /// It runs as it is.
    #[error("{}", .0.message())]
    LeftAlone(LeftAlone),
    /// It may not run: all that is wrong, at once.
    #[error("{}", sentences(.0))]
    Refused(Vec<Refusal>),
}

/// Why a pod runs as it is. The codes are stable: metrics and Events carry them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeftAlone {
    /// Its namespace has not opted in.
    NamespaceNotOptedIn,
    /// It is in the controller's own namespace, or in `kube-system`.
    SystemNamespace,
    /// It asks for it, and its namespace allows it.
    OptedOut,
    /// It has all that injection would add.
    AlreadyInjected,
    /// It is the image of a static pod, which a kubelet runs whatever the API says.
    MirrorPod,
}

impl LeftAlone {
    /// All.
    pub const ALL: [Self; 5] = [
        Self::NamespaceNotOptedIn,
        Self::SystemNamespace,
        Self::OptedOut,
        Self::AlreadyInjected,
        Self::MirrorPod,
    ];

    /// The code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NamespaceNotOptedIn => "namespace_not_opted_in",
            Self::SystemNamespace => "system_namespace",
            Self::OptedOut => "opted_out",
            Self::AlreadyInjected => "already_injected",
            Self::MirrorPod => "mirror_pod",
        }
    }

    /// A sentence for the pod's author.
    pub const fn message(self) -> &'static str {
        match self {
            Self::NamespaceNotOptedIn => {
                "The namespace has no label countersign.dev/inject=enabled, so the pod has no relay."
            }
            Self::SystemNamespace => {
                "Pods of kube-system and of Countersign's own namespace are never injected."
            }
            Self::OptedOut => {
                "The annotation countersign.dev/inject=disabled leaves the pod without a relay, so it reaches no API with a credential."
            }
            Self::AlreadyInjected => "The pod has all that injection adds.",
            Self::MirrorPod => "A static pod runs as its node's file says. It has no relay.",
        }
    }
}

/// One thing for which a pod is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code of its kind.
    pub code: &'static str,
    /// Where in the pod.
    pub field: String,
    /// What is wrong, and what to change.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(
        code: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            code,
            field: field.into(),
            message: message.into(),
        }
    }
}

/// All refusals as one message, which `kubectl` and the Events of controllers show.
pub fn sentences(refusals: &[Refusal]) -> String {
    let lines: Vec<_> = refusals
        .iter()
        .map(|refusal| format!("{}: {} ({})", refusal.field, refusal.message, refusal.code))
        .collect();
    format!("countersign does not admit this pod. {}", lines.join(" "))
}

/// The operations that make `after` of `before`: whole values, so that they do not depend on the order of lists.
pub(super) fn patch(before: &Value, after: &Value) -> Vec<Value> {
    /// The parts of a pod that injection writes.
    const PARTS: [&str; 5] = [
        "/metadata/labels",
        "/metadata/annotations",
        "/spec/volumes",
        "/spec/initContainers",
        "/spec/containers",
    ];
    let changed = PARTS.into_iter().filter_map(|path| {
        let (old, new) = (before.pointer(path), after.pointer(path)?);
        // `add` replaces what is there.
        (old != Some(new)).then(|| json!({"op": "add", "path": path, "value": new}))
    });
    changed.collect()
}
