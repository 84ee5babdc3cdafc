//! A finished request as spans: one of its own, and one for each step.

use std::{mem::size_of, time::Duration};

use countersign_core::metrics::Step;
use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    trace::v1::{
        Span, Status,
        span::{Event, SpanKind},
        status::StatusCode,
    },
};
use serde_json::Value;
use uuid::Uuid;

use super::super::{
    Outcome,
    closed::Closed,
    otlp::{attributes, is_known_method, number, text},
    steps::{Timed, steps},
    trace_context::{CALL, Parent, TraceId, span_id},
};

/// What spans are made of: the record's line, and what is not in it.
#[derive(Debug)]
pub(super) struct Finished {
    /// The record, as it is in the log.
    line: Box<[u8]>,
    id: Uuid,
    trace: Option<TraceId>,
    parent: Option<Parent>,
    time: Timestamp,
    total: Duration,
    steps: Box<[Timed]>,
    outcome: Outcome,
    /// When the API's rejection of the credential came, if the request was sent again after it.
    rejected: Option<Duration>,
}

impl Finished {
    /// Of a record and its line.
    pub(super) fn new(closed: &Closed, line: &[u8]) -> Self {
        let entry = &closed.entry;
        let replayed = entry.upstream.as_ref().is_some_and(|part| part.replayed);
        Self {
            line: line.into(),
            id: entry.id,
            trace: entry.trace_id,
            parent: entry.parent.as_deref().cloned(),
            time: closed.time,
            total: closed.total,
            steps: steps(closed).collect(),
            outcome: closed.outcome,
            rejected: entry.timing.rejected.filter(|_| replayed),
        }
    }

    /// The memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let state = self
            .parent
            .as_ref()
            .and_then(|parent| parent.state.as_ref());
        size_of::<Self>()
            + self.line.len()
            + self.steps.len() * size_of::<Timed>()
            + state.map_or(0, |state| state.len())
    }

    /// How many spans it is.
    pub(super) fn spans(&self) -> u64 {
        1 + self.steps.len() as u64
    }

    /// Its spans, that of the whole request first.
    pub(super) fn into_spans(self) -> Vec<Span> {
        let record: Value = serde_json::from_slice(&self.line).unwrap_or_default();
        let mut all = vec![self.request(&record)];
        let steps = self.steps.iter().zip(CALL + 1..);
        all.extend(steps.map(|(step, number)| self.step(step, number, &record)));
        all
    }

    fn request(&self, record: &Value) -> Span {
        let mut attributes = attributes(record);
        attributes.extend(of_server(record));
        Span {
            trace_state: self
                .parent
                .as_ref()
                .and_then(|parent| parent.state.as_deref())
                .unwrap_or_default()
                .to_owned(),
            parent_span_id: self
                .parent
                .as_ref()
                .map(|parent| parent.span.get().to_be_bytes().to_vec())
                .unwrap_or_default(),
            name: name(record),
            kind: SpanKind::Server.into(),
            attributes,
            status: self.status(),
            ..self.span(0, Duration::ZERO, self.total)
        }
    }

    fn step(&self, step: &Timed, number: u64, record: &Value) -> Span {
        let calls = step.step == Step::Upstream;
        let number = if calls { CALL } else { number };
        let failed = calls && self.outcome.blame() == Some("upstream");
        Span {
            parent_span_id: span_id(self.id, 0).get().to_be_bytes().to_vec(),
            name: step.step.name().to_owned(),
            kind: if calls {
                SpanKind::Client
            } else {
                SpanKind::Internal
            }
            .into(),
            attributes: if calls { of_client(record) } else { Vec::new() },
            events: self
                .rejected
                .filter(|_| calls)
                .map(|at| self.sent_again(at))
                .into_iter()
                .collect(),
            status: self.status().filter(|_| failed),
            ..self.span(number, step.start, step.took)
        }
    }

    fn span(&self, number: u64, start: Duration, took: Duration) -> Span {
        Span {
            trace_id: self
                .trace
                .map(|trace| trace.to_bytes().to_vec())
                .unwrap_or_default(),
            span_id: span_id(self.id, number).get().to_be_bytes().to_vec(),
            start_time_unix_nano: self.at(start),
            end_time_unix_nano: self.at(start + took),
            ..Span::default()
        }
    }

    fn sent_again(&self, at: Duration) -> Event {
        Event {
            time_unix_nano: self.at(at),
            name: "countersign.credential.rejected".to_owned(),
            ..Event::default()
        }
    }

    fn at(&self, after: Duration) -> u64 {
        let opened = u64::try_from(self.time.as_nanosecond()).unwrap_or_default();
        opened.saturating_add(u64::try_from(after.as_nanos()).unwrap_or_default())
    }

    fn status(&self) -> Option<Status> {
        self.outcome.blame().map(|_| Status {
            message: self.outcome.reason().to_owned(),
            code: StatusCode::Error.into(),
        })
    }
}

/// A name that says no more than method and target, as tracing systems count by it.
fn name(record: &Value) -> String {
    let found = |pointer| record.pointer(pointer).and_then(Value::as_str);
    let method = found("/target/method").filter(|method| is_known_method(method));
    let verb = match (method, found("/target/protocol")) {
        (Some(method), _) => method,
        (None, Some("connect" | "transparent")) => "CONNECT",
        (None, _) => "HTTP",
    };
    match found("/target/name") {
        Some(target) => format!("{verb} {target}"),
        None => verb.to_owned(),
    }
}

/// What only the span of a request as the gateway's callers see it has.
fn of_server(record: &Value) -> Vec<KeyValue> {
    let found = |pointer| record.pointer(pointer).and_then(Value::as_str);
    let mut all = Vec::new();
    let version = match found("/target/protocol") {
        Some("h2") => Some("2"),
        Some("http/1.1") => Some("1.1"),
        Some("http/1.0") => Some("1.0"),
        _ => None,
    };
    if let Some(version) = version {
        all.push(text("network.protocol.name", "http"));
        all.push(text("network.protocol.version", version));
    }
    let client = found("/caller/client").and_then(|client| client.parse().ok());
    if let Some(client) = client {
        let client: std::net::SocketAddr = client;
        all.push(text("client.address", &client.ip().to_string()));
    }
    for (name, pointer) in [
        ("http.request.body.size", "/bytes/request"),
        ("http.response.body.size", "/bytes/response"),
    ] {
        let size = record.pointer(pointer).and_then(Value::as_i64);
        all.extend(size.map(|size| number(name, size)));
    }
    all
}

/// What the span of the call has.
fn of_client(record: &Value) -> Vec<KeyValue> {
    const KEPT: [&str; 7] = [
        "http.request.method",
        "http.request.method_original",
        "http.response.status_code",
        "network.peer.address",
        "server.address",
        "server.port",
        "url.path",
    ];
    let mut all = attributes(record);
    all.retain(|one| KEPT.contains(&one.key.as_str()));
    if record.pointer("/upstream/replayed") == Some(&Value::Bool(true)) {
        all.push(number("http.request.resend_count", 1));
    }
    all
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;

    use super::*;
    use crate::observe::{fixture, log::line_of};

    fn finished(outcome: Outcome, fill: impl FnOnce(&mut crate::observe::Entry)) -> Finished {
        let (recorder, _log) = fixture::recorder();
        let mut record = recorder.open();
        fixture::fill(&mut record);
        fill(&mut record);
        let closed = record.take_closed(outcome);
        Finished::new(&closed, &line_of(&closed))
    }

    fn value<'s>(span: &'s Span, name: &str) -> Option<&'s Any> {
        let found = span.attributes.iter().find(|one| one.key == name)?;
        found.value.as_ref()?.value.as_ref()
    }

    #[test]
    fn a_request_is_a_span_with_a_child_for_each_step() {
        let finished = finished(Outcome::Permitted, |_| ());
        let count = finished.spans();
        let spans = finished.into_spans();
        assert_eq!(spans.len() as u64, count);
        let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
        assert_eq!(
            names,
            [
                "POST slack",
                "identify",
                "decide",
                "credential",
                "upstream",
                "body"
            ]
        );
        let (request, steps) = spans.split_first().unwrap();
        assert!(request.parent_span_id.is_empty());
        let mut ids: Vec<_> = spans.iter().map(|span| &span.span_id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), spans.len(), "each has an id of its own");
        for step in steps {
            assert_eq!(step.parent_span_id, request.span_id);
            assert_eq!(step.trace_id, request.trace_id);
            assert!(step.start_time_unix_nano >= request.start_time_unix_nano);
            assert!(step.end_time_unix_nano <= request.end_time_unix_nano);
        }
        let text = |name| match value(request, name) {
            Some(Any::StringValue(text)) => text.as_str(),
            other => panic!("{name} is {other:?}"),
        };
        for (name, expected) in [
            ("http.request.method", "POST"),
            ("url.path", "/api/chat.postMessage"),
            ("server.address", "slack.com"),
            ("network.protocol.version", "2"),
            ("client.address", "10.0.0.7"),
            ("k8s.namespace.name", "qa"),
            ("countersign.target", "slack"),
        ] {
            assert_eq!(text(name), expected);
        }
        assert_eq!(value(request, "error.type"), None);
        assert_eq!(request.status, None);
    }

    #[test]
    fn a_refusal_has_its_reason_as_the_type_of_its_error() {
        let refused = Outcome::Refused {
            reason: "request_not_allowed",
            blame: "operator",
        };
        let spans = finished(refused, |entry| entry.timing.first_byte = None).into_spans();
        let reason = Any::StringValue("request_not_allowed".to_owned());
        assert_eq!(value(&spans[0], "error.type"), Some(&reason));
        let status = spans[0].status.as_ref().unwrap();
        assert_eq!(status.code, i32::from(StatusCode::Error));
        assert!(spans.iter().all(|span| span.name != Step::Upstream.name()));
    }

    #[test]
    fn a_method_that_a_caller_made_up_is_no_name() {
        let spans = finished(Outcome::Permitted, |entry| {
            let target = entry.target.as_mut().unwrap();
            target.method = Some(http::Method::from_bytes(b"x-make-it-so").unwrap());
        })
        .into_spans();
        assert_eq!(spans[0].name, "HTTP slack");
        let other = Any::StringValue("_OTHER".to_owned());
        assert_eq!(value(&spans[0], "http.request.method"), Some(&other));
    }

    #[test]
    fn what_was_sent_twice_says_so() {
        let spans = finished(Outcome::Permitted, |entry| {
            entry.upstream.as_mut().unwrap().replayed = true;
            entry.timing.rejected = Some(Duration::from_millis(40));
        })
        .into_spans();
        let call = spans
            .iter()
            .find(|span| span.name == Step::Upstream.name())
            .unwrap();
        assert_eq!(
            value(call, "http.request.resend_count"),
            Some(&Any::IntValue(1))
        );
        assert_eq!(call.events.len(), 1);
        assert_eq!(
            call.events[0].time_unix_nano - spans[0].start_time_unix_nano,
            40_000_000
        );
    }
}
