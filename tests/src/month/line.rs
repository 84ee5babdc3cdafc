//! The lines of the month, as the gateway writes them: `tests/e2e/operations/month.rs` compares each kind with a
//! record of a real gateway, field by field.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

/// A decision. The order of the fields is that of the real record.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    schema: &'static str,
    pub(super) time: String,
    pub(super) id: String,
    trace_id: Option<String>,
    pub(super) outcome: &'static str,
    pub(super) reason: &'static str,
    pub(super) blame: Option<&'static str>,
    listener: &'static str,
    pub(super) caller: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused_token: Option<Value>,
    pub(super) workload: Value,
    pub(super) policy: Value,
    pub(super) target: Value,
    pub(super) credential: Value,
    pub(super) upstream: Value,
    pub(super) bytes: Value,
    pub(super) timing_us: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nearest: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
}

impl Record {
    /// A record of nothing but a time and an id.
    pub(super) fn at(time: Timestamp, random: u64) -> Self {
        let milliseconds = u64::try_from(time.as_millisecond()).unwrap_or_default();
        let (high, low) = (milliseconds >> 16, milliseconds & 0xffff);
        Self {
            schema: "countersign.decision/v1",
            time: format!("{time:.3}"),
            id: format!(
                "{high:08x}-{low:04x}-7{:03x}-{:04x}-{:012x}",
                random >> 52,
                0x8000 | (random >> 38 & 0x3fff),
                random & 0xffff_ffff_ffff,
            ),
            trace_id: None,
            outcome: "permitted",
            reason: "permitted",
            blame: None,
            listener: "proxy",
            caller: Value::Null,
            refused_token: None,
            workload: Value::Null,
            policy: Value::Null,
            target: Value::Null,
            credential: Value::Null,
            upstream: Value::Null,
            bytes: json!({"request": 0, "response": 0}),
            timing_us: json!({"identify": 0, "authorize": 1, "credential": 0, "connect": 0, "first_byte": null, "total": 40}),
            revision: None,
            nearest: None,
            detail: None,
        }
    }

    pub(super) fn ends(
        &mut self,
        outcome: &'static str,
        reason: &'static str,
        blame: &'static str,
        detail: impl Into<String>,
    ) {
        self.outcome = outcome;
        self.reason = reason;
        self.blame = Some(blame);
        self.detail = Some(detail.into());
    }

    pub(super) fn took(&mut self, took: SignedDuration) {
        self.timing_us["total"] = json!(u64::try_from(took.as_micros()).unwrap_or_default());
    }

    /// The API's response.
    pub(super) fn answered(&mut self, status: Option<u16>, api_error: Option<&str>) {
        let first = status.map(|_| 81_200);
        self.timing_us["first_byte"] = json!(first);
        self.timing_us["total"] = json!(81_950);
        self.bytes = json!({"request": 512, "response": if status.is_some() { 1024 } else { 0 }});
        self.upstream = json!({
            "address": "203.0.113.7:443", "reused": true, "status": status, "api_error": api_error, "replayed": false,
        });
    }

    /// Refused before it was forwarded.
    pub(super) fn stays_here(&mut self) {
        self.upstream = Value::Null;
        self.credential = Value::Null;
        self.bytes = json!({"request": 0, "response": 0});
        self.timing_us["first_byte"] = Value::Null;
        self.timing_us["total"] = json!(70);
    }

    /// No policy decided it, and the resources in force are known.
    pub(super) fn is_no_policy_s(&mut self) {
        self.revision = self.policy.get("revision").cloned();
        self.policy = Value::Null;
    }

    /// Nothing was proven.
    pub(super) fn is_a_stranger(&mut self) {
        self.stays_here();
        let client = self.caller["client"].clone();
        self.caller = json!({"proof": null, "issuer": null, "subject": null, "pod": null, "token_id": null, "client": client});
        self.workload = Value::Null;
        self.policy = Value::Null;
        self.revision = None;
        self.target = json!({"name": null, "authority": self.target["authority"], "method": null, "path": null, "protocol": "connect"});
    }

    /// The line, with its end.
    ///
    /// # Panics
    /// Never: it is JSON.
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("a record is JSON") + "\n"
    }

    /// The record as a value.
    ///
    /// # Panics
    /// Never: it is JSON.
    pub fn value(&self) -> Value {
        serde_json::to_value(self).expect("a record is JSON")
    }
}

/// An event of the gateway itself.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    schema: &'static str,
    time: String,
    #[serde(rename = "event")]
    name: &'static str,
    version: &'static str,
    revision: String,
    #[serde(flatten)]
    more: serde_json::Map<String, Value>,
}

impl Event {
    pub(super) fn new(time: Timestamp, name: &'static str, revision: &str, more: &Value) -> Self {
        Self {
            schema: "countersign.event/v1",
            time: format!("{time:.3}"),
            name,
            version: env!("CARGO_PKG_VERSION"),
            revision: revision.to_owned(),
            more: more.as_object().cloned().unwrap_or_default(),
        }
    }

    /// The line, with its end.
    ///
    /// # Panics
    /// Never: it is JSON.
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("an event is JSON") + "\n"
    }

    /// The event as a value.
    ///
    /// # Panics
    /// Never: it is JSON.
    pub fn value(&self) -> Value {
        serde_json::to_value(self).expect("an event is JSON")
    }
}
