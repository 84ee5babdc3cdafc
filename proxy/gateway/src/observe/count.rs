//! Counts finished requests in the metrics.

use super::{closed::Closed, sampler::Sampler, steps::steps};
use countersign_core::metrics::{Finished, Metrics};

/// Counts a finished request; with its trace, if its spans are sent.
pub(super) fn finished(metrics: &Metrics, closed: &Closed, sampler: Option<Sampler>) {
    let entry = &closed.entry;
    let is_traced = sampler.is_some_and(|sampler| sampler.keeps(entry, closed.outcome));
    for timed in steps(closed) {
        metrics.step(timed.step, timed.took);
    }
    metrics.finished(&Finished {
        outcome: closed.outcome.name(),
        reason: closed.outcome.reason(),
        target: entry.target.as_ref().and_then(|part| part.name.as_ref()),
        policy: entry.policy.as_ref().map(|part| &part.policy.name),
        would_refuse: entry.policy.as_ref().and_then(|part| part.would_refuse),
        overhead: entry.timing.overhead(),
        credential: entry
            .credential
            .as_ref()
            .map(|part| (&part.name, part.age_s)),
        upstream: entry
            .upstream
            .as_ref()
            .map(|part| (part.status, part.reused)),
        total: closed.total,
        bytes: closed.bytes,
        trace: entry
            .trace_id
            .filter(|_| is_traced)
            .map(|trace| trace.to_string()),
    });
}

#[cfg(test)]
mod tests {
    use super::super::{Outcome, fixture};

    #[test]
    fn a_record_is_counted_by_names_only() {
        let (recorder, _log) = fixture::recorder();
        let mut record = recorder.open();
        fixture::fill(&mut record);
        record.close(Outcome::Permitted);
        let text = recorder.metrics().encode().unwrap();
        for line in [
            r#"countersign_requests_total{outcome="permitted",reason="permitted",target="slack",policy="qa/dashboard-posts-to-slack"} 1"#,
            r#"countersign_would_refuse_total{reason="request_not_allowed",target="slack",policy="qa/dashboard-posts-to-slack"} 1"#,
            "countersign_overhead_seconds_count 1",
            r#"countersign_request_duration_seconds_count{target="slack"} 1"#,
            r#"countersign_request_body_bytes_total{target="slack"} 512"#,
            r#"countersign_response_body_bytes_total{target="slack"} 1024"#,
            r#"countersign_upstream_responses_total{target="slack",class="2xx",reused="true"} 1"#,
            r#"countersign_credential_age_seconds{credential="qa/slack-bot"} 812"#,
            "# EOF",
        ] {
            assert!(text.lines().any(|there| there == line), "{line}\n{text}");
        }
        for foreign in [
            "chat.postMessage",
            "channel_not_found",
            "slack.com",
            "10.0.0.7",
        ] {
            assert!(!text.contains(foreign), "{foreign}\n{text}");
        }
    }
}
