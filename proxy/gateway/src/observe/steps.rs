//! The steps of a finished request, one after the other: for its spans and for the histograms, which so cannot disagree.

use std::time::Duration;

use countersign_core::{
    metrics::Step,
    reason::{Blame, Reason},
};

use super::{Outcome, closed::Closed};

/// One step, and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timed {
    pub(super) step: Step,
    /// When it began, from the opening of the record.
    pub(super) start: Duration,
    /// How long it took.
    pub(super) took: Duration,
}

/// The steps that were reached.
///
/// A record has how long each step took; they are laid end to end.
pub(super) fn steps(closed: &Closed) -> impl Iterator<Item = Timed> + use<> {
    let Closed { entry, total, .. } = closed;
    let timing = &entry.timing;
    let mut at = Duration::ZERO;
    let mut step = |step, was_reached: bool, took: Duration| {
        let took = took.min(total.saturating_sub(at));
        let start = at;
        was_reached.then(|| {
            at += took;
            Timed { step, start, took }
        })
    };
    let reached = |took: Duration| !took.is_zero();
    let identify = step(
        Step::Identify,
        entry.caller.is_some() || reached(timing.identify),
        timing.identify,
    );
    let decide = step(
        Step::Decide,
        entry.policy.is_some() || reached(timing.authorize),
        timing.authorize,
    );
    let wait = step(Step::Wait, reached(timing.waited), timing.waited);
    let credential = step(
        Step::Credential,
        entry.credential.is_some() || reached(timing.credential),
        timing.credential,
    );
    let connect = step(Step::Connect, reached(timing.connect), timing.connect);
    let before = timing.overhead() + timing.waited + timing.connect;
    let until_answer = timing.first_byte.map(|at| at.saturating_sub(before));
    let rest = total.saturating_sub(before);
    let upstream = match until_answer {
        Some(took) => step(Step::Upstream, true, took),
        None => step(Step::Upstream, was_called(closed.outcome), rest),
    };
    let streams = until_answer.is_some() || closed.outcome == Outcome::Tunnelled;
    let body = step(
        Step::Body,
        streams,
        rest.saturating_sub(until_answer.unwrap_or_default()),
    );
    let all: [_; Step::ALL.len()] = [identify, decide, wait, credential, connect, upstream, body];
    all.into_iter().flatten()
}

/// Whether the API was called, and did not answer.
fn was_called(outcome: Outcome) -> bool {
    let limited = Reason::UpstreamRateLimited.facts();
    outcome.blame() == Some(Blame::Upstream.as_str()) && outcome.reason() != limited.code
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Outcome, fixture},
        *,
    };

    fn of(
        outcome: Outcome,
        total: u64,
        fill: impl FnOnce(&mut super::super::Entry),
    ) -> Vec<(&'static str, u64, u64)> {
        let (recorder, _log) = fixture::recorder();
        let mut record = recorder.open();
        fill(&mut record);
        let mut closed = record.take_closed(outcome);
        closed.total = Duration::from_micros(total);
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap();
        steps(&closed)
            .map(|step| (step.step.name(), micros(step.start), micros(step.took)))
            .collect()
    }

    #[test]
    fn steps_follow_each_other_and_fill_the_request() {
        let found = of(Outcome::Permitted, 90_000, |entry| {
            fixture::fill(entry);
            entry.timing.identify = Duration::from_micros(4);
            entry.timing.credential = Duration::from_micros(5);
            entry.timing.connect = Duration::from_millis(1);
        });
        let expected = [
            ("identify", 0, 4),
            ("decide", 4, 1),
            ("credential", 5, 5),
            ("connect", 10, 1000),
            ("upstream", 1010, 80_190),
            ("body", 81_200, 8800),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_wait_for_the_rate_limit_is_not_the_apis_time() {
        let found = of(Outcome::Permitted, 90_000, |entry| {
            fixture::fill(entry);
            entry.timing.waited = Duration::from_millis(70);
        });
        assert!(found.contains(&("wait", 1, 70_000)), "{found:?}");
        assert!(found.contains(&("upstream", 70_001, 11_199)), "{found:?}");
    }

    #[test]
    fn a_refused_request_has_the_steps_up_to_its_refusal() {
        let refused = Outcome::Refused {
            reason: "request_not_allowed",
            blame: "operator",
        };
        let found = of(refused, 10, |entry| {
            entry.caller = Some(fixture::caller("a"));
            entry.timing.authorize = Duration::from_micros(3);
        });
        assert_eq!(found, [("identify", 0, 0), ("decide", 0, 3)]);
    }

    #[test]
    fn an_api_that_does_not_answer_has_the_rest_of_the_time() {
        let failed = Outcome::Failed {
            reason: "upstream_reset",
            blame: "upstream",
        };
        let found = of(failed, 100, |entry| {
            entry.timing.authorize = Duration::from_micros(3);
        });
        assert_eq!(found, [("decide", 0, 3), ("upstream", 3, 97)]);
        let tunnel = of(Outcome::Tunnelled, 100, |_| ());
        assert_eq!(tunnel, [("body", 0, 100)]);
    }

    #[test]
    fn no_step_lasts_longer_than_its_request() {
        let found = of(Outcome::Permitted, 50, fixture::fill);
        let most = found.iter().map(|(_, start, took)| start + took).max();
        assert_eq!(most, Some(50));
    }
}
