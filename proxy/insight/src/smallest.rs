//! The smallest change that would permit a request, and the resources with it, so that [`diff`](crate::diff::diff) can say what
//! else it would permit.

use std::sync::Arc;

use countersign_config::{
    host::HostPattern,
    model::{
        Approval, Conditions, Credential, Mode, Policy, ResourceName, Rule, Selector, Target,
        Workload,
    },
    path::PathPatterns,
    policy::{CallerFacts, Decision, Denial, DenyReason, PolicySet, RequestFacts, Resources},
};
use jiff::{SignedDuration, Timestamp};

/// The most changes that are put together.
const MAX_STEPS: usize = 4;

/// How much longer a policy that has ended would permit.
const LONGER: SignedDuration = SignedDuration::from_hours(24);

/// What would have to change, so that a request is permitted.
#[derive(Debug)]
pub struct Smallest {
    /// What to write where, a sentence each.
    pub steps: Vec<String>,
    /// The resources with these changes; `None` if no change of resources alone is enough. Then the last step
    /// says what is in the way.
    pub policies: Option<PolicySet>,
}

/// The smallest change that would permit the request now; `None` if it is permitted already.
pub fn smallest(
    policies: &PolicySet,
    caller: &CallerFacts,
    request: &RequestFacts<'_>,
    now: Timestamp,
) -> Option<Smallest> {
    let mut steps = Vec::new();
    let mut changed: Option<PolicySet> = None;
    for _ in 0..MAX_STEPS {
        let current = changed.as_ref().unwrap_or(policies);
        let denial = match current.decide(&current.recognise(caller), caller, request, now) {
            Decision::Permit(_) if steps.is_empty() => return None,
            Decision::Permit(_) => {
                return Some(Smallest {
                    steps,
                    policies: changed,
                });
            }
            Decision::Unmatched => {
                steps.push(
                    "write a TargetService with this host, and an AccessPolicy for it".to_owned(),
                );
                break;
            }
            Decision::Deny(denial) => denial,
        };
        let asked = Asked {
            policies: current,
            caller,
            request,
            now,
        };
        let (step, next) = asked.step(&denial);
        steps.push(step);
        match next {
            Some(next) => changed = Some(next),
            None => break,
        }
    }
    Some(Smallest {
        steps,
        policies: None,
    })
}

struct Asked<'a> {
    policies: &'a PolicySet,
    caller: &'a CallerFacts,
    request: &'a RequestFacts<'a>,
    now: Timestamp,
}

/// A sentence, and the resources after it, if that is a change of resources.
type Step = (String, Option<PolicySet>);

impl Asked<'_> {
    fn step(&self, denial: &Denial) -> Step {
        let nearest = denial.nearest.as_ref().map(|nearest| &nearest.policy);
        match (denial.reason, nearest) {
            (DenyReason::PathDenied, _) => (
                "no policy can: the target denies this path to everyone".to_owned(),
                None,
            ),
            (DenyReason::NoRoute, _) => (
                "add a route for this path to the TargetService".to_owned(),
                None,
            ),
            (DenyReason::WorkloadUnknown, _) => self.selector(denial),
            (DenyReason::TargetNotGranted, _) => self.policy(denial),
            (DenyReason::RequestNotAllowed, Some(policy)) => self.rule(policy),
            (DenyReason::SlotNotGranted, Some(policy)) => self.credential(denial, policy),
            (DenyReason::PolicyExpired, Some(policy)) => self.longer(policy),
            (DenyReason::OutsideSchedule, Some(policy)) => {
                let next = policy
                    .conditions
                    .schedule
                    .as_ref()
                    .and_then(|own| own.next_open(self.now));
                let next = next.map_or_else(|| "never".to_owned(), |next| next.to_string());
                (
                    format!(
                        "wait: the window of {} opens next at {next}; or widen its `schedule`",
                        policy.name
                    ),
                    None,
                )
            }
            (DenyReason::ConditionFalse | DenyReason::ConditionError, Some(policy)) => {
                let when = policy
                    .conditions
                    .when
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                (
                    format!("the expression of {} must hold: {when}", policy.name),
                    None,
                )
            }
            (_, None) => ("no policy comes close".to_owned(), None),
        }
    }

    fn rule(&self, policy: &Arc<Policy>) -> Step {
        let RequestFacts {
            host, method, path, ..
        } = self.request;
        let paths = PathPatterns::parse(&[path.as_str()], false).ok();
        let Some(paths) = paths.filter(|_| !path.as_str().contains('*')) else {
            return (format!("add a rule to {}", policy.name), None);
        };
        let mut changed = (**policy).clone();
        changed.allow.push(Rule {
            hosts: vec![HostPattern::from((*host).clone())],
            methods: vec![(*method).clone()],
            paths,
        });
        let step = format!(
            "add to `allow` of AccessPolicy {}: {{ hosts: [\"{host}\"], methods: [{method}], paths: [\"{}\"] }}",
            policy.name,
            path.as_str()
        );
        (step, Some(self.with_policy(&changed)))
    }

    fn longer(&self, policy: &Arc<Policy>) -> Step {
        let Ok(end) = self.now.checked_add(LONGER) else {
            return (format!("move `notAfter` of {}", policy.name), None);
        };
        let mut changed = (**policy).clone();
        changed.conditions.not_after = Some(end);
        let step = format!(
            "move `conditions.notAfter` of AccessPolicy {} to {end}",
            policy.name
        );
        (step, Some(self.with_policy(&changed)))
    }

    fn credential(&self, denial: &Denial, policy: &Arc<Policy>) -> Step {
        let slot = self.slot(&denial.target);
        match (slot, self.only_credential(&denial.target, &policy.name)) {
            (Some(slot), Some(credential)) => {
                let mut changed = (**policy).clone();
                let step = format!(
                    "add to `credentials` of AccessPolicy {}: {{ {slot}: {} }}",
                    policy.name, credential.name
                );
                changed.credentials.push((slot, credential));
                (step, Some(self.with_policy(&changed)))
            }
            _ => (
                format!(
                    "add a credential for the slot to AccessPolicy {}",
                    policy.name
                ),
                None,
            ),
        }
    }

    /// The slot that the request's route needs.
    fn slot(&self, target: &Target) -> Option<Arc<str>> {
        let route = target.route_for(self.request.host, self.request.path)?;
        route.attach.as_ref().map(|attach| Arc::clone(&attach.slot))
    }

    /// The credential for a target that a policy may use, if there is only one.
    fn only_credential(&self, target: &Target, policy: &ResourceName) -> Option<Arc<Credential>> {
        let namespace = policy.namespace().unwrap_or_default();
        let mut usable = self.policies.credentials().iter().filter(|credential| {
            credential.target == target.name
                && credential
                    .allowed_namespaces
                    .iter()
                    .any(|own| own == namespace)
        });
        let first = usable.next()?;
        usable.next().is_none().then(|| Arc::clone(first))
    }

    fn policy(&self, denial: &Denial) -> Step {
        let Some(workload) = &denial.workload else {
            return ("write an AccessPolicy".to_owned(), None);
        };
        let (target, namespace) = (
            &denial.target,
            workload.name.namespace().unwrap_or_default(),
        );
        let name = ResourceName::namespaced(
            namespace,
            &format!("{}-{}", workload.name.name(), target.name.name()),
        );
        let credential = match self.slot(target) {
            None => None,
            Some(slot) => {
                let Some(credential) = self.only_credential(target, &name) else {
                    let step = format!(
                        "write an AccessPolicy for {} and {} with a credential for the slot {slot}",
                        workload.name, target.name
                    );
                    return (step, None);
                };
                Some((slot, credential))
            }
        };
        let with = credential
            .as_ref()
            .map_or_else(String::new, |(slot, credential)| {
                format!(", credentials {{ {slot}: {} }}", credential.name)
            });
        let empty = Policy {
            name: name.clone(),
            owner: workload.owner.clone(),
            workloads: vec![Arc::clone(workload)],
            target: Arc::clone(target),
            credentials: credential.into_iter().collect(),
            allow: Vec::new(),
            conditions: Conditions::default(),
            mode: Mode::Enforce,
            approval: Approval::default(),
        };
        let (rule, changed) = self.rule(&Arc::new(empty));
        let step = format!(
            "write AccessPolicy {name} for workload {} and target {}{with}; {rule}",
            workload.name, target.name
        );
        (step, changed)
    }

    fn selector(&self, denial: &Denial) -> Step {
        let caller = self.caller;
        let Some(nearest) = &denial.nearest_selector else {
            return (
                "write a Workload for this caller, and an AccessPolicy for it".to_owned(),
                None,
            );
        };
        let text = |fact: &Option<Arc<str>>| fact.as_deref().map(str::to_owned);
        let selector = Selector {
            cluster: text(&caller.cluster),
            namespace: text(&caller.namespace),
            service_account: text(&caller.service_account),
            cron_job: None,
            pod_labels: std::collections::BTreeMap::new(),
            images: Vec::new(),
            spiffe_id: caller
                .service_account
                .is_none()
                .then(|| text(&caller.spiffe_id))
                .flatten(),
        };
        let named = [
            ("cluster", &selector.cluster),
            ("namespace", &selector.namespace),
            ("serviceAccount", &selector.service_account),
            ("spiffeId", &selector.spiffe_id),
        ];
        let keys = named
            .iter()
            .filter_map(|(key, value)| value.as_ref().map(|value| format!("{key}: \"{value}\"")));
        let step = format!(
            "add to `match` of Workload {}: {{ {} }}",
            nearest.workload.name,
            keys.collect::<Vec<_>>().join(", ")
        );
        let mut workload = (*nearest.workload).clone();
        workload.selectors.push(selector);
        (step, Some(self.with_workload(&Arc::new(workload))))
    }

    fn with_policy(&self, changed: &Policy) -> PolicySet {
        let others = self
            .policies
            .policies()
            .iter()
            .filter(|own| own.name != changed.name)
            .cloned();
        let policies = others.chain([Arc::new(changed.clone())]).collect();
        self.compile(self.policies.workloads().to_vec(), policies)
    }

    fn with_workload(&self, changed: &Arc<Workload>) -> PolicySet {
        let replaced = |own: &Arc<Workload>| {
            if own.name == changed.name {
                Arc::clone(changed)
            } else {
                Arc::clone(own)
            }
        };
        let policies = self.policies.policies().iter().map(|policy| {
            Arc::new(Policy {
                workloads: policy.workloads.iter().map(replaced).collect(),
                ..(**policy).clone()
            })
        });
        let policies = policies.collect();
        self.compile(
            self.policies.workloads().iter().map(replaced).collect(),
            policies,
        )
    }

    fn compile(&self, workloads: Vec<Arc<Workload>>, policies: Vec<Arc<Policy>>) -> PolicySet {
        PolicySet::compile(Resources {
            workloads,
            targets: self.policies.targets().to_vec(),
            credentials: self.policies.credentials().to_vec(),
            policies,
            revision: format!("{}-changed", self.policies.revision()),
        })
    }
}

#[cfg(test)]
mod tests;
