//! A denial in one sentence: for the caller, which learns only what to ask for, and for the operator,
//! who learns what to change.

use std::fmt::Write;

use super::{Denial, DenyReason, Mismatch, NearestRoute, answer::printable};

impl Denial {
    /// The sentence for the calling program. It names no policy and no rule.
    pub fn sentence_for_caller(&self) -> String {
        let workload = self
            .workload
            .as_ref()
            .map_or("this workload", |workload| workload.name.as_str());
        let target = &self.target.name;
        match self.reason {
            DenyReason::WorkloadUnknown => {
                format!(
                    "the calling pod is not a registered workload, so it has no access to {target}"
                )
            }
            DenyReason::TargetNotGranted => format!("{workload} has no access to {target}"),
            DenyReason::RequestNotAllowed => {
                format!("{workload} has access to {target}, but not for this request")
            }
            DenyReason::OutsideSchedule => {
                format!("{workload} has access to {target} only at scheduled times, and not now")
            }
            DenyReason::PolicyExpired => {
                format!("the access of {workload} to {target} has expired")
            }
            DenyReason::ConditionFalse => {
                format!(
                    "this request of {workload} does not meet the conditions of its access to {target}"
                )
            }
            DenyReason::ConditionError => {
                format!(
                    "the conditions of the access of {workload} to {target} cannot be evaluated for this request"
                )
            }
            DenyReason::PathDenied => {
                format!(
                    "{target} endpoints that issue or revoke credentials, or are closed for another reason, are denied to every workload"
                )
            }
            DenyReason::NoRoute => format!("the proxy does not send such requests to {target}"),
            DenyReason::SlotNotGranted => {
                format!(
                    "{workload} has access to {target}, but not with the credential this request needs"
                )
            }
        }
    }

    /// The sentence for the operator: what was compared, and what to change if the request should be
    /// permitted.
    pub fn sentence_for_operator(&self) -> String {
        let mut sentence = self.finding();
        let remedy = self.remedy();
        if let Some(nearest) = &self.nearest {
            let place = match nearest.rule {
                Some(rule) => format!("{}, allow[{rule}]", nearest.policy.name),
                None => nearest.policy.name.to_string(),
            };
            append(
                &mut sentence,
                &format!("the closest is AccessPolicy {place}"),
                &nearest.mismatches,
            );
        }
        if let Some(nearest) = &self.nearest_selector {
            let place = format!("{}, match[{}]", nearest.workload.name, nearest.entry);
            append(
                &mut sentence,
                &format!("the closest is Workload {place}"),
                &nearest.mismatches,
            );
        }
        if let Some(NearestRoute { index, matches }) = &self.nearest_route {
            let nearest = format!("; the closest is routes[{index}] ({})", printable(matches));
            sentence.push_str(&nearest);
        }
        sentence + "; to permit it, " + remedy
    }

    fn finding(&self) -> String {
        let target = &self.target.name;
        let workload = self
            .workload
            .as_ref()
            .map_or("an unknown workload", |workload| workload.name.as_str());
        match self.reason {
            DenyReason::WorkloadUnknown => match &self.spiffe_id {
                Some(id) => format!("no Workload matches the caller's SPIFFE ID {id}"),
                None => "no Workload matches the caller".to_owned(),
            },
            DenyReason::TargetNotGranted => {
                format!("no AccessPolicy grants {workload} the target {target}")
            }
            DenyReason::RequestNotAllowed => {
                format!("no rule for {workload} and {target} allows this request")
            }
            DenyReason::OutsideSchedule => {
                format!("{workload} called {target} outside of its schedule")
            }
            DenyReason::PolicyExpired => {
                format!("the policy for {workload} and {target} has expired")
            }
            DenyReason::ConditionFalse => {
                format!("the condition for {workload} and {target} is false")
            }
            DenyReason::ConditionError => {
                format!("the condition for {workload} and {target} failed")
            }
            DenyReason::PathDenied => {
                let why = printable(self.denied_by.as_deref().unwrap_or("no reason given"));
                format!("TargetService {target} denies this path to every workload ({why})")
            }
            DenyReason::NoRoute => {
                format!("TargetService {target} has no route for this host and path")
            }
            DenyReason::SlotNotGranted => format!(
                "no policy for {workload} and {target} fills the credential slot that the route needs"
            ),
        }
    }

    fn remedy(&self) -> &'static str {
        match self.reason {
            // A certificate alone proves nothing about service accounts.
            DenyReason::WorkloadUnknown if self.spiffe_id.is_some() => {
                "add a Workload whose `match` has this `spiffeId`, or correct the one that is closest"
            }
            DenyReason::WorkloadUnknown => {
                "add or correct a Workload's `match`, or run the pod as the intended service account"
            }
            DenyReason::TargetNotGranted => "add an AccessPolicy for this workload and target",
            DenyReason::RequestNotAllowed => "extend that rule or add one",
            DenyReason::OutsideSchedule => {
                "call within the window, or change `conditions.schedule`"
            }
            DenyReason::PolicyExpired => "review the access and move `conditions.notAfter`",
            DenyReason::ConditionFalse => "change the request or `conditions.when`",
            DenyReason::ConditionError => {
                "correct `conditions.when` (test for a key with `has` before it is used) or the request"
            }
            DenyReason::PathDenied => {
                "change the TargetService's `deny` route, which protects the credentials themselves"
            }
            DenyReason::NoRoute => "add a route to the TargetService",
            DenyReason::SlotNotGranted => {
                "name a credential for that slot under the policy's `credentials`"
            }
        }
    }
}

fn append(sentence: &mut String, place: &str, mismatches: &[Mismatch]) {
    sentence.push_str("; ");
    sentence.push_str(place);
    for (index, mismatch) in mismatches.iter().enumerate() {
        sentence.push_str(if index == 0 { ": " } else { ", and " });
        write!(sentence, "{mismatch}").expect("writing to a String cannot fail");
    }
}

/// `paths: expected /a, got /b`.
impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            what,
            expected,
            actual,
        } = self;
        write!(f, "{what}: expected {expected}, got {actual}")
    }
}
