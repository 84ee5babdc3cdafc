//! Our own objects of a namespace: which were not accepted, and whether one is about a service account.

use countersign_config::{resource::Kind, shown::escaped};
use serde_json::Value;

use super::{
    api::{Api, Resource, Unread},
    report::Finding,
};
use crate::crd;

/// The objects of one namespace.
pub(super) struct Objects {
    of_kinds: Vec<(&'static str, Vec<Value>)>,
}

impl Objects {
    pub(super) async fn read(api: &Api, namespace: &str) -> Result<Self, Unread> {
        let mut of_kinds = Vec::new();
        for kind in crd::KINDS {
            let Some(names) = crd::names(kind) else {
                continue;
            };
            let resource = Resource::new(crd::GROUP, crd::version(), names.plural);
            of_kinds.push((kind.name(), api.list(resource, namespace, "").await?));
        }
        Ok(Self { of_kinds })
    }

    fn of(&self, kind: Kind) -> &[Value] {
        let found = self.of_kinds.iter().find(|(name, _)| *name == kind.name());
        found.map(|(_, objects)| &**objects).unwrap_or_default()
    }

    /// What became of them, as their conditions say.
    pub(super) fn conditions(&self, namespace: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        let (mut fine, mut waiting) = (Vec::new(), Vec::new());
        for (kind, objects) in &self.of_kinds {
            let (mut accepted, mut unread) = (0_usize, 0_usize);
            for object in objects {
                match Standing::of(object) {
                    Standing::Accepted => accepted += 1,
                    Standing::Unread => unread += 1,
                    Standing::Unmet(message) => findings.push(unmet(kind, object, message)),
                }
            }
            for (count, told) in [(accepted, &mut fine), (unread, &mut waiting)] {
                if count > 0 {
                    told.push(format!("{count} {kind}"));
                }
            }
        }
        if !waiting.is_empty() {
            findings.insert(0, Finding::warning(
                "objects",
                format!("no gateway has said yet what it makes of {} in {namespace}", waiting.join(", ")),
                "look again in a minute; if it stays so, read the gateways' log: it says whether they read objects of this namespace, and which gateway writes the status of objects",
            ));
        }
        if !fine.is_empty() {
            let text = format!("accepted in {namespace}: {}", fine.join(", "));
            findings.insert(0, Finding::fine("objects", text));
        }
        findings
    }

    /// Whether a workload, a policy and a credential are there for a service account.
    pub(super) fn about(&self, namespace: &str, account: &str) -> Vec<Finding> {
        let workloads: Vec<&str> = self
            .of(Kind::Workload)
            .iter()
            .filter(|workload| matches(workload, namespace, account))
            .filter_map(name)
            .collect();
        let [workload, ..] = workloads.as_slice() else {
            return vec![Finding::failed(
                "workload",
                format!(
                    "no Workload in {namespace} is about the service account {account}, so its requests are refused"
                ),
                "write one whose `match` has this serviceAccount, and kubectl apply it",
            )];
        };
        let mut findings = vec![Finding::fine(
            "workload",
            format!("{account} is the workload {}", workloads.join(", ")),
        )];
        let policies: Vec<&Value> = self
            .of(Kind::AccessPolicy)
            .iter()
            .filter(|policy| {
                let mut named = policy["spec"]["workloads"].as_array().into_iter().flatten();
                named.any(|it| it.as_str().is_some_and(|it| workloads.contains(&it)))
            })
            .collect();
        if policies.is_empty() {
            findings.push(Finding::failed(
                "policy",
                format!("no AccessPolicy in {namespace} names the workload {workload}, so its requests are refused"),
                format!("write one with `workloads: [{workload}]`, and kubectl apply it"),
            ));
            return findings;
        }
        let names: Vec<_> = policies.iter().filter_map(|it| name(it)).collect();
        findings.push(Finding::fine(
            "policy",
            format!("it may what is in {}", names.join(", ")),
        ));
        let known: Vec<_> = self.of(Kind::Credential).iter().filter_map(name).collect();
        for policy in policies {
            let Some(credential) = policy["spec"]["credential"].as_str() else {
                continue;
            };
            if !known.contains(&credential) {
                findings.push(Finding::failed(
                    "credential",
                    format!(
                        "the AccessPolicy {} names the credential {}, which is not in {namespace}",
                        name(policy).unwrap_or_default(),
                        escaped(credential)
                    ),
                    "kubectl apply the Credential, or correct the name",
                ));
            }
        }
        findings
    }
}

fn name(object: &Value) -> Option<&str> {
    object["metadata"]["name"].as_str()
}

/// What the gateways say of an object.
enum Standing<'o> {
    Accepted,
    /// Nothing, or something about an earlier version.
    Unread,
    /// A condition does not hold, and says this.
    Unmet(&'o str),
}

impl<'o> Standing<'o> {
    fn of(object: &'o Value) -> Self {
        let generation = object["metadata"]["generation"].as_i64();
        let conditions = object["status"]["conditions"].as_array();
        let current: Vec<_> = conditions
            .into_iter()
            .flatten()
            .filter(|condition| {
                let about = condition["observedGeneration"].as_i64();
                about.is_none() || generation.is_none() || about >= generation
            })
            .collect();
        let of_type = |wanted: &str| current.iter().find(|it| it["type"] == wanted);
        if of_type("Accepted").is_none() {
            return Self::Unread;
        }
        // `Accepted` says more than `Ready`.
        let unmet = ["Accepted", "CredentialReady", "Ready"]
            .into_iter()
            .filter_map(of_type)
            .find(|it| it["status"] == "False");
        match unmet {
            None => Self::Accepted,
            Some(unmet) => Self::Unmet(unmet["message"].as_str().unwrap_or_default()),
        }
    }
}

fn unmet(kind: &str, object: &Value, message: &str) -> Finding {
    let message = escaped(message.lines().next().unwrap_or_default());
    Finding::failed(
        "objects",
        format!("{kind} {}: {message}", name(object).unwrap_or_default()),
        "correct it as its condition says; what was accepted last stays in force until then",
    )
}

/// Whether one of a workload's selectors is about the account, as far as can be seen without a pod.
fn matches(workload: &Value, namespace: &str, account: &str) -> bool {
    let mut selectors = workload["spec"]["match"].as_array().into_iter().flatten();
    selectors.any(|selector| {
        let agrees = |key: &str, value: &str| selector[key].is_null() || selector[key] == *value;
        agrees("serviceAccount", account) && agrees("namespace", namespace)
    })
}
