//! Which requests have their spans sent, and what the API gets to know of the trace.

use countersign_config::model::Traces;
use http::HeaderValue;

use super::{
    Entry, Outcome,
    trace_context::{CALL, span_id},
};

/// A flag of `traceparent`: who sent it records its spans.
const SAMPLED: u8 = 0x01;

/// A flag of `traceparent`: the last 56 bits of the trace id are random.
const RANDOM: u8 = 0x02;

/// The random bits of a trace id, which decide about it.
const RANDOM_BITS: u64 = (1 << 56) - 1;

/// Which requests have their spans sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sampler {
    /// A new trace whose random bits are below it is not sampled.
    threshold: u64,
    /// Whether every request that is refused or fails is.
    refusals: bool,
}

impl Sampler {
    /// As the operator wants it.
    pub(crate) fn new(traces: &Traces) -> Self {
        let left_out = (1.0 - traces.ratio).clamp(0.0, 1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a part of 2^56 is between zero and 2^56"
        )]
        let threshold = (left_out * (RANDOM_BITS + 1) as f64) as u64;
        Self {
            threshold,
            refusals: traces.refusals,
        }
    }

    /// Whether a request is sampled when it arrives: as its caller's span is, or else by its trace id.
    pub(crate) fn samples(self, entry: &Entry) -> bool {
        match (&entry.parent, entry.trace_id) {
            (Some(parent), _) => parent.flags & SAMPLED != 0,
            (None, Some(trace)) => trace.random() >= self.threshold,
            (None, None) => false,
        }
    }

    /// Whether the spans of a request that ended so are sent.
    pub(crate) fn keeps(self, entry: &Entry, outcome: Outcome) -> bool {
        let went_wrong = matches!(outcome, Outcome::Refused { .. } | Outcome::Failed { .. });
        (self.refusals && went_wrong) || self.samples(entry)
    }

    /// The `traceparent` for the API: the request's trace, and the span of the step that calls it.
    pub(crate) fn traceparent(self, entry: &Entry) -> Option<HeaderValue> {
        let trace = entry.trace_id?;
        let random = entry
            .parent
            .as_ref()
            .map_or(RANDOM, |parent| parent.flags & RANDOM);
        let flags = random | u8::from(self.samples(entry));
        let span = span_id(entry.id, CALL);
        HeaderValue::try_from(format!("00-{trace}-{span:016x}-{flags:02x}")).ok()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{
        super::trace_context::{
            Parent, TraceId,
            tests::{HEADER, headers},
        },
        *,
    };

    fn sampler(ratio: f64) -> Sampler {
        Sampler::new(&Traces {
            collector: countersign_config::model::Collector {
                endpoint: String::new(),
                ca_file: None,
            },
            protocol: countersign_config::model::OtlpProtocol::Grpc,
            ratio,
            refusals: true,
        })
    }

    fn entry(id: Uuid, parent: Option<&str>) -> Entry {
        let mut entry = Entry::new(id);
        entry.trace_id = TraceId::begun_by(id);
        if let Some(header) = parent {
            let (trace, parent) = Parent::of(&headers(&[("traceparent", header)])).unwrap();
            (entry.trace_id, entry.parent) = (Some(trace), Some(Box::new(parent)));
        }
        entry
    }

    /// As the gateway draws them.
    fn new_id() -> Uuid {
        let (recorder, _log) = crate::observe::fixture::recorder();
        recorder.open().id
    }

    #[test]
    fn a_ratio_is_kept_for_new_traces_and_a_parent_decides_for_its_own() {
        let refused = Outcome::failed(countersign_core::reason::Reason::RequestNotAllowed);
        for (ratio, least, most) in [(0.0, 0, 0), (0.25, 150, 350), (1.0, 1000, 1000)] {
            let sampler = sampler(ratio);
            let entries = (0..1000).map(|_| entry(new_id(), None));
            let entries: Vec<_> = entries.collect();
            let sampled = entries
                .iter()
                .filter(|entry| sampler.samples(entry))
                .count();
            assert!((least..=most).contains(&sampled), "{ratio}: {sampled}");
            assert!(entries.iter().all(|entry| sampler.keeps(entry, refused)));
            let kept = entries
                .iter()
                .filter(|entry| sampler.keeps(entry, Outcome::Permitted));
            assert_eq!(kept.count(), sampled);
            assert!(sampler.samples(&entry(new_id(), Some(HEADER))));
            let unsampled = HEADER.replace("b7-01", "b7-00");
            assert!(!sampler.samples(&entry(new_id(), Some(&unsampled))));
        }
    }

    #[test]
    fn an_api_gets_the_trace_with_the_span_that_calls_it() {
        let id = Uuid::from_u128(0x0194_f3c1_2a44_7000_8000_0000_0000_0001);
        let sent = |parent, ratio| {
            let value = sampler(ratio).traceparent(&entry(id, parent)).unwrap();
            value.to_str().unwrap().to_owned()
        };
        let span = "8000000000000002";
        for (flags, ratio) in [("03", 1.0), ("02", 0.0)] {
            let begun = format!("00-0194f3c12a4470008000000000000001-{span}-{flags}");
            assert_eq!(sent(None, ratio), begun);
        }
        let joined = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{span}-01");
        assert_eq!(sent(Some(HEADER), 0.0), joined);
    }
}
