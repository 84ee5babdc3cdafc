//! The trace that a request belongs to (W3C Trace Context).
//!
//! Ids are those of the record, so that none are drawn: a version 7 UUID has 62 random bits at its end, which is what the
//! specification wants of a trace id (section 5.2 of level 2).

use std::{fmt, num::NonZero};

use countersign_config::model::{TRACEPARENT, TRACESTATE};
use http::HeaderMap;
use uuid::Uuid;

/// The longest `tracestate` that is kept in spans, which is what every tracing system must accept.
const STATE_BYTES: usize = 512;

/// A trace id of W3C Trace Context; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZero<u128>);

impl TraceId {
    /// Reads the trace id of a `traceparent` header (W3C Trace Context, section 3.2.2). `None` if
    /// it is not well formed, in which case the specification wants it ignored.
    pub fn from_traceparent(header: &[u8]) -> Option<Self> {
        let lower_hex = |bytes: &[u8]| {
            bytes
                .iter()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let (known, rest) = header.split_at_checked(55)?;
        let (version, trace, parent, flags) =
            (&known[0..2], &known[3..35], &known[36..52], &known[53..55]);
        let dashes = [known[2], known[35], known[52]] == *b"---";
        let ends = rest.is_empty() || (version != b"00" && rest.starts_with(b"-"));
        let well_formed = dashes
            && ends
            && version != b"ff"
            && [version, trace, parent, flags].into_iter().all(lower_hex)
            && parent.iter().any(|byte| *byte != b'0');
        if !well_formed {
            return None;
        }
        let mut id = 0;
        for byte in trace {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                letter => letter - b'a' + 10,
            };
            id = id << 4 | u128::from(digit);
        }
        NonZero::new(id).map(Self)
    }
}

impl TraceId {
    /// The trace that begins with a request.
    pub fn begun_by(record: Uuid) -> Option<Self> {
        NonZero::new(record.as_u128()).map(Self)
    }

    /// As it is in OTLP.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }

    /// Its last 56 bits, which are random.
    pub(super) fn random(self) -> u64 {
        const RANDOM: u128 = (1 << 56) - 1;
        u64::try_from(self.0.get() & RANDOM).unwrap_or_default()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The id of a span; never zero.
pub(super) type SpanId = NonZero<u64>;

/// The ids of the spans of one request, which follow each other: its own, that of the step that calls the API, and those
/// of its other steps.
pub(super) fn span_id(record: Uuid, number: u64) -> SpanId {
    let (_, low) = record.as_u64_pair();
    // Its first bit is the variant's, so that a small number is added without an overflow.
    NonZero::new(low.saturating_add(number)).unwrap_or(SpanId::MIN)
}

/// The number of the span of the step that calls the API, which the API sees as its parent.
pub(super) const CALL: u64 = 1;

/// The span of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its id.
    pub span: SpanId,
    /// What tracing systems added to it, if every character is permitted there.
    pub state: Option<Box<str>>,
    /// Its flags.
    pub(super) flags: u8,
}

impl Parent {
    /// The trace and the span in a request's headers; `None` if there is no `traceparent`, or several, or one that is not
    /// well formed: then a new trace begins.
    pub fn of(headers: &HeaderMap) -> Option<(TraceId, Self)> {
        let mut all = headers.get_all(TRACEPARENT).iter();
        let (only, None) = (all.next()?.as_bytes(), all.next()) else {
            return None;
        };
        let trace = TraceId::from_traceparent(only)?;
        // What is well formed has them there.
        let hex = |range| u64::from_str_radix(std::str::from_utf8(only.get(range)?).ok()?, 16).ok();
        let span = NonZero::new(hex(36..52)?)?;
        let flags = hex(53..55)?.to_le_bytes()[0];
        let state = state(headers);
        Some((trace, Self { span, state, flags }))
    }
}

/// The lists of all `tracestate` headers as one, without a credential's look-alike.
fn state(headers: &HeaderMap) -> Option<Box<str>> {
    let all: Vec<_> = headers
        .get_all(TRACESTATE)
        .iter()
        .map(|value| value.to_str().ok())
        .collect::<Option<_>>()?;
    let all = all.join(",");
    let is_kept = !all.is_empty()
        && all.len() <= STATE_BYTES
        && countersign_core::redact::redact(&all) == all;
    is_kept.then(|| all.into())
}

#[cfg(test)]
pub(super) mod tests {
    use http::HeaderValue;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::sampled("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true)]
    #[case::later_version("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", true)]
    #[case::version_00_is_exact(
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        false
    )]
    #[case::later_version_needs_dash(
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.",
        false
    )]
    #[case::forbidden_version("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false)]
    #[case::upper_case("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false)]
    #[case::zero_trace("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false)]
    #[case::zero_parent("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false)]
    #[case::shifted_dash("00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01", false)]
    #[case::short("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", false)]
    #[case::empty("", false)]
    fn reads_traceparent(#[case] header: &str, #[case] valid: bool) {
        let id = TraceId::from_traceparent(header.as_bytes()).map(|id| id.to_string());
        assert_eq!(
            id.as_deref(),
            valid.then_some("4bf92f3577b34da6a3ce929d0e0e4736")
        );
    }

    pub(in crate::observe) const HEADER: &str =
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    pub(in crate::observe) fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let values = all.iter().map(|(name, value)| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            (http::HeaderName::from_static(name), value)
        });
        values.collect()
    }

    #[rstest]
    #[case::alone(&[("traceparent", HEADER)], Some(""))]
    #[case::with_state(
        &[("traceparent", HEADER), ("tracestate", "a=1"), ("tracestate", "b=2")],
        Some("a=1,b=2")
    )]
    #[case::twice(&[("traceparent", HEADER), ("traceparent", HEADER)], None)]
    #[case::state_alone(&[("tracestate", "a=1")], None)]
    #[case::none(&[], None)]
    fn a_parent_is_the_only_one(
        #[case] all: &[(&'static str, &str)],
        #[case] expected: Option<&str>,
    ) {
        let found = Parent::of(&headers(all)).map(|(_, parent)| parent);
        let state = found
            .as_ref()
            .map(|parent| parent.state.as_deref().unwrap_or_default());
        assert_eq!(state, expected);
        if let Some(parent) = found {
            assert_eq!(
                (parent.span.get(), parent.flags),
                (0x00f0_67aa_0ba9_02b7, 1)
            );
        }
    }

    #[test]
    fn a_state_that_looks_like_a_credential_or_is_too_long_is_not_kept() {
        let long = format!("a={}", "1".repeat(STATE_BYTES));
        let token = format!("a=xoxb-{}", "1234567890-".repeat(4));
        for state in [&*long, &*token, "a=\u{fc}"] {
            let all = headers(&[("traceparent", HEADER), ("tracestate", state)]);
            let (_, parent) = Parent::of(&all).unwrap();
            assert_eq!(parent.state, None, "{state}");
        }
    }
}
