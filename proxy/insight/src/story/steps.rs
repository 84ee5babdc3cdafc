//! A request step by step, as its record tells: what each step found, how long it took, and where it ended.

use serde::Serialize;

use crate::{
    record::{Decision, Outcome},
    triage::label_of,
};

/// One step of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its name: `accept`, `identify`, `authorize`, `credential`, `forward` or `answer`.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// What became of it.
    pub state: StepState,
    /// What it found, as names and texts.
    pub facts: Vec<(&'static str, String)>,
    /// How long it took, in microseconds, if that was measured.
    pub took_us: Option<u64>,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It did what it is for.
    Done,
    /// The request ended here.
    Stopped,
    /// The request ended before it.
    NotReached,
    /// This request did not need it.
    NotNeeded,
}

impl StepState {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Stopped => "ended here",
            Self::NotReached => "not reached",
            Self::NotNeeded => "not needed",
        }
    }
}

/// The steps in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Accept,
    Identify,
    Authorize,
    Credential,
    Forward,
    Answer,
}

/// The facts of a step.
#[derive(Default)]
struct Facts(Vec<(&'static str, String)>);

impl Facts {
    fn add(&mut self, name: &'static str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.0.push((name, value.to_string()));
        }
    }
}

/// All six steps of a request.
pub(super) fn steps(decision: &Decision<'_>) -> Vec<Step> {
    let timing = &decision.timing_us;
    let measured = |took: u64| Some(took).filter(|took| *took > 0);
    let all = [
        (
            Place::Accept,
            "accept",
            "take the connection and read the request",
            accept(decision),
            None,
        ),
        (
            Place::Identify,
            "identify",
            "prove who calls",
            identify(decision),
            measured(timing.identify),
        ),
        (
            Place::Authorize,
            "authorize",
            "decide by policy",
            authorize(decision),
            measured(timing.authorize),
        ),
        (
            Place::Credential,
            "credential",
            "obtain what the API asks for",
            credential(decision),
            measured(timing.credential),
        ),
        (
            Place::Forward,
            "forward",
            "connect and send it on",
            forward(decision),
            measured(timing.connect),
        ),
        (
            Place::Answer,
            "answer",
            "pass the answer back",
            answer(decision),
            measured(timing.total),
        ),
    ];
    let end = end(decision);
    let steps = all
        .into_iter()
        .map(|(place, name, purpose, facts, took_us)| {
            let state = state(decision, place, end);
            let was_reached = state != StepState::NotReached;
            Step {
                name,
                purpose,
                state,
                facts: if was_reached { facts.0 } else { Vec::new() },
                took_us: took_us.filter(|_| was_reached),
            }
        });
    steps.collect()
}

/// Where it ended, if it did not go through.
fn end(decision: &Decision<'_>) -> Option<Place> {
    if matches!(decision.outcome, Outcome::Permitted | Outcome::Tunnelled) {
        return None;
    }
    let label = label_of(&decision.reason);
    let of_credential = matches!(label, "CREDENTIAL" | "SCOPE");
    let answered = decision.upstream.as_ref();
    let answered = answered.is_some_and(|upstream| upstream.status.is_some());
    let proven = decision.caller.as_ref();
    let proven = proven.is_some_and(|caller| caller.proof.is_some());
    Some(match label {
        _ if of_credential => Place::Credential,
        _ if answered => Place::Answer,
        "IDENTITY" | "CLOCK" => Place::Identify,
        "TRUST" => Place::Accept,
        "API" | "NETWORK" => Place::Forward,
        _ if !proven => Place::Accept,
        _ if decision.outcome == Outcome::Failed => Place::Forward,
        _ => Place::Authorize,
    })
}

fn state(decision: &Decision<'_>, place: Place, end: Option<Place>) -> StepState {
    let answered = decision.upstream.as_ref();
    let answered = answered.is_some_and(|upstream| upstream.status.is_some());
    let unneeded = match place {
        Place::Credential => decision.credential.is_none(),
        Place::Authorize => decision.policy.is_none(),
        Place::Accept | Place::Identify | Place::Forward | Place::Answer => false,
    };
    match end {
        Some(end) if place == end => StepState::Stopped,
        // The API's answer tells that a credential is not good.
        Some(end) if place > end && !answered => StepState::NotReached,
        _ if unneeded => StepState::NotNeeded,
        _ => StepState::Done,
    }
}

fn accept(decision: &Decision<'_>) -> Facts {
    let mut facts = Facts::default();
    facts.add("listener", decision.listener.as_ref());
    let caller = decision.caller.as_ref();
    facts.add("client", caller.and_then(|caller| caller.client.as_ref()));
    if let Some(target) = &decision.target {
        facts.add("protocol", target.protocol.as_ref());
        facts.add("host", Some(&target.authority));
        facts.add("method", target.method.as_ref());
        facts.add("path", target.path.as_ref());
    }
    facts.add(
        "original destination",
        decision.original_destination.as_ref(),
    );
    facts.add("trace", decision.trace_id.as_ref());
    facts
}

fn identify(decision: &Decision<'_>) -> Facts {
    let mut facts = Facts::default();
    if let Some(caller) = &decision.caller {
        facts.add("proof", caller.proof.as_ref());
        facts.add("issuer", caller.issuer.as_ref());
        facts.add("subject", caller.subject.as_ref());
        facts.add("pod", caller.pod.as_ref());
    }
    if let Some(token) = &decision.refused_token {
        facts.add("refused token of", token.subject.as_ref());
        facts.add("its pod", token.pod.as_ref());
        let audiences: Vec<&str> = token.audiences.iter().map(|one| &**one).collect();
        facts.add(
            "its audiences",
            (!audiences.is_empty()).then(|| audiences.join(", ")),
        );
    }
    if let Some(workload) = &decision.workload {
        facts.add("workload", Some(&workload.name));
        facts.add("owner", workload.owner.as_ref());
        facts.add("environment", workload.environment.as_ref());
    }
    facts
}

fn authorize(decision: &Decision<'_>) -> Facts {
    let mut facts = Facts::default();
    let target = decision.target.as_ref();
    facts.add("target", target.and_then(|target| target.name.as_ref()));
    if let Some(policy) = &decision.policy {
        facts.add("policy", Some(&policy.name));
        facts.add("rule", policy.rule.map(|rule| format!("allow[{rule}]")));
        facts.add("mode", policy.mode.as_ref());
        facts.add("revision", policy.revision.as_ref());
        facts.add("enforced, it would refuse", policy.would_refuse.as_ref());
    }
    facts.add("revision", decision.revision.as_ref());
    if let Some(nearest) = &decision.nearest {
        let rule = nearest.rule.map(|rule| format!(" allow[{rule}]"));
        let place = format!("{}{}", &*nearest.policy, rule.unwrap_or_default());
        facts.add("nearest rule", Some(place));
        for one in &nearest.mismatches {
            let text = format!(
                "{} is {}, asked was {}",
                &*one.what, &*one.expected, &*one.actual
            );
            facts.add("does not match", Some(text));
        }
    }
    facts
}

fn credential(decision: &Decision<'_>) -> Facts {
    let mut facts = Facts::default();
    if let Some(credential) = &decision.credential {
        facts.add("credential", Some(&credential.name));
        facts.add("slot", credential.slot.as_ref());
        facts.add("value", credential.generation);
        let seconds = |seconds: u64| format!("{seconds} s");
        facts.add("age", credential.age_s.map(seconds));
        facts.add("expires in", credential.expires_in_s.map(seconds));
        facts.add(
            "source",
            credential.stale.then_some("failed when last asked"),
        );
        let rejected = credential.rejected.as_ref();
        let said = rejected.map(|rejected| rejected.api_error.as_deref().unwrap_or("yes"));
        facts.add("rejected by the API", said);
    }
    facts
}

fn forward(decision: &Decision<'_>) -> Facts {
    let mut facts = Facts::default();
    if let Some(upstream) = &decision.upstream {
        facts.add("address", upstream.address.as_ref());
        let connection = if upstream.reused { "reused" } else { "new" };
        facts.add("connection", upstream.address.as_ref().map(|_| connection));
        let again = "a second time, with a new credential";
        facts.add("sent", upstream.replayed.then_some(again));
    }
    facts
}

fn answer(decision: &Decision<'_>) -> Facts {
    let mut facts = Facts::default();
    if let Some(upstream) = &decision.upstream {
        facts.add("status", upstream.status);
        facts.add("error of the API", upstream.api_error.as_ref());
        let echoed = "it contained the credential";
        facts.add("warning", upstream.echoed.then_some(echoed));
    }
    let (sent, received) = (decision.bytes.request, decision.bytes.response);
    facts.add("bytes", Some(format!("{sent} sent, {received} received")));
    facts
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn states(more: &str) -> Vec<StepState> {
        let record = format!(
            r#"{{"time":"2026-11-23T05:10:03Z","id":"1","workload":{{"name":"qa/a"}},{more}}}"#
        );
        let decision: Decision<'_> = serde_json::from_str(&record).unwrap();
        steps(&decision).iter().map(|step| step.state).collect()
    }

    #[rstest]
    #[case::went_through(
        r#""outcome":"permitted","reason":"permitted","policy":{"name":"qa/p"},"credential":{"name":"qa/c"},"upstream":{"status":200}"#,
        "DDDDDD"
    )]
    #[case::unproven(r#""outcome":"refused","reason":"identity_expired""#, "DS----")]
    #[case::not_permitted(
        r#""outcome":"refused","reason":"request_not_allowed","caller":{"proof":"token"}"#,
        "DDS---"
    )]
    #[case::malformed(r#""outcome":"refused","reason":"request_malformed""#, "S-----")]
    #[case::no_credential(
        r#""outcome":"failed","reason":"credential_missing","policy":{"name":"qa/p"},"caller":{"proof":"token"}"#,
        "DDDS--"
    )]
    #[case::rejected_by_the_api(
        r#""outcome":"failed","reason":"credential_rejected","policy":{"name":"qa/p"},"credential":{"name":"qa/c"},"upstream":{"status":401}"#,
        "DDDSDD"
    )]
    #[case::api_away(
        r#""outcome":"failed","reason":"upstream_connect","policy":{"name":"qa/p"}"#,
        "DDDnS-"
    )]
    #[case::client_left(
        r#""outcome":"failed","reason":"client_gone","policy":{"name":"qa/p"},"upstream":{"status":200}"#,
        "DDDnDS"
    )]
    fn a_request_ends_at_the_step_of_its_reason(#[case] more: &str, #[case] expected: &str) {
        let told: String = states(more)
            .iter()
            .map(|state| match state {
                StepState::Done => 'D',
                StepState::Stopped => 'S',
                StepState::NotReached => '-',
                StepState::NotNeeded => 'n',
            })
            .collect();
        assert_eq!(told, expected);
    }
}
