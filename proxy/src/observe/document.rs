//! The decision record as JSON: one line, keys in the order of `docs/decision-record.md`.
//!
//! Keys are always there, `null` when unknown, so that a reader need not guess; only `listener`,
//! `original_destination`, `nearest`, `detail` and `would_refuse`, which belong to some records only, are left out.

use std::{fmt::Display, io, time::Duration};

use countersign_config::{
    model::{Mode, ResourceName, Workload},
    policy::{Mismatch, Nearest},
};
use jiff::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeStruct};
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

use super::{
    CallerPart, CredentialPart, Entry, PolicyPart, TargetPart, UpstreamPart,
    record::Closed,
    redact::{needs_escape, redact},
};

/// The record's schema; a change that would surprise a reader gets a new one.
pub(super) const SCHEMA: &str = "countersign.decision/v1";

/// The schema of a line that stands for records which were lost.
pub(super) const DROPPED_SCHEMA: &str = "countersign.dropped/v1";

/// Appends the record and a line feed. Fails never in practice: writing to memory cannot, and the
/// shape has string keys only.
pub(super) fn write_line(closed: &Closed, line: &mut Vec<u8>) -> serde_json::Result<()> {
    Document(closed).serialize(&mut serde_json::Serializer::with_formatter(
        &mut *line, Escaping,
    ))?;
    line.push(b'\n');
    Ok(())
}

/// Appends the line that stands for `count` lost records.
pub(super) fn write_dropped(count: u64, time: Timestamp, line: &mut Vec<u8>) {
    let json =
        serde_json::json!({"schema": DROPPED_SCHEMA, "count": count, "time": format!("{time:.3}")});
    line.extend_from_slice(json.to_string().as_bytes());
    line.push(b'\n');
}

struct Document<'a>(&'a Closed);

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Closed {
            time,
            entry,
            outcome,
            total,
            bytes: (request, response),
        } = self.0;
        let mut json = serializer.serialize_struct("decision", 19)?;
        json.serialize_field("schema", SCHEMA)?;
        json.serialize_field("time", &Shown(format_args!("{time:.3}")))?;
        json.serialize_field("id", &Shown(entry.id))?;
        json.serialize_field("trace_id", &entry.trace_id.map(Shown))?;
        json.serialize_field("outcome", outcome.name())?;
        json.serialize_field("reason", outcome.reason())?;
        json.serialize_field("blame", &outcome.blame())?;
        match &entry.listener {
            Some(listener) => json.serialize_field("listener", listener)?,
            None => json.skip_field("listener")?,
        }
        match entry.original_destination {
            Some(address) => json.serialize_field("original_destination", &Shown(address))?,
            None => json.skip_field("original_destination")?,
        }
        json.serialize_field("caller", &CallerJson::of(entry))?;
        json.serialize_field("workload", &entry.workload.as_deref().map(WorkloadJson::of))?;
        json.serialize_field("policy", &entry.policy.as_ref().map(PolicyJson::of))?;
        json.serialize_field("target", &entry.target.as_ref().map(TargetJson::of))?;
        json.serialize_field(
            "credential",
            &entry.credential.as_ref().map(CredentialJson::of),
        )?;
        json.serialize_field("upstream", &entry.upstream.as_ref().map(UpstreamJson::of))?;
        json.serialize_field(
            "bytes",
            &BytesJson {
                request: *request,
                response: *response,
            },
        )?;
        json.serialize_field("timing_us", &TimingJson::of(entry, *total))?;
        match &entry.nearest {
            Some(nearest) => json.serialize_field("nearest", &NearestJson::of(nearest))?,
            None => json.skip_field("nearest")?,
        }
        match &entry.detail {
            Some(detail) => json.serialize_field("detail", &Free(detail))?,
            None => json.skip_field("detail")?,
        }
        json.end()
    }
}

#[derive(Serialize)]
struct CallerJson<'a> {
    proof: Option<&'a str>,
    issuer: Option<&'a str>,
    subject: Option<&'a str>,
    pod: Option<&'a str>,
    token_id: Option<&'a str>,
    client: Option<Shown<std::net::SocketAddr>>,
}

impl<'a> CallerJson<'a> {
    /// `None` only if not even the peer's address is known.
    fn of(entry: &'a Entry) -> Option<Self> {
        let caller = entry.caller.as_deref();
        if caller.is_none() && entry.client.is_none() {
            return None;
        }
        let text = |field: fn(&CallerPart) -> Option<&str>| caller.and_then(field);
        Some(Self {
            proof: text(|caller| Some(caller.proof)),
            issuer: text(|caller| caller.issuer.as_deref()),
            subject: text(|caller| caller.subject.as_deref()),
            pod: text(|caller| caller.pod.as_deref()),
            token_id: text(|caller| caller.token_id.as_deref()),
            client: entry.client.map(Shown),
        })
    }
}

#[derive(Serialize)]
struct WorkloadJson<'a> {
    name: &'a str,
    owner: &'a str,
    environment: Option<&'a str>,
}

impl<'a> WorkloadJson<'a> {
    fn of(workload: &'a Workload) -> Self {
        Self {
            name: workload.name.as_str(),
            owner: &workload.owner,
            environment: workload.environment.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct PolicyJson<'a> {
    name: &'a str,
    rule: Option<usize>,
    mode: &'static str,
    revision: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    would_refuse: Option<&'static str>,
}

impl<'a> PolicyJson<'a> {
    fn of(part: &'a PolicyPart) -> Self {
        Self {
            name: part.policy.name.as_str(),
            rule: part.rule,
            mode: match part.policy.mode {
                Mode::Enforce => "enforce",
                Mode::Observe => "observe",
            },
            revision: &part.revision,
            would_refuse: part.would_refuse,
        }
    }
}

#[derive(Serialize)]
struct TargetJson<'a> {
    name: Option<&'a str>,
    authority: Shown<&'a crate::destination::Authority>,
    method: Option<&'a str>,
    path: Option<Free<'a>>,
    protocol: &'static str,
}

impl<'a> TargetJson<'a> {
    fn of(part: &'a TargetPart) -> Self {
        Self {
            name: part.name.as_ref().map(ResourceName::as_str),
            authority: Shown(&part.authority),
            method: part.method.as_ref().map(http::Method::as_str),
            path: part.path.as_ref().map(|path| Free(path.as_str())),
            protocol: part.protocol,
        }
    }
}

#[derive(Serialize)]
struct CredentialJson<'a> {
    name: &'a str,
    slot: &'a str,
    generation: u64,
    age_s: u64,
    expires_in_s: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<RejectedJson<'a>>,
}

#[derive(Serialize)]
struct RejectedJson<'a> {
    generation: u64,
    api_error: Option<Free<'a>>,
}

impl<'a> CredentialJson<'a> {
    fn of(part: &'a CredentialPart) -> Self {
        Self {
            name: part.name.as_str(),
            slot: &part.slot,
            generation: part.generation,
            age_s: part.age_s,
            expires_in_s: part.expires_in_s,
            stale: part.stale,
            rejected: part.rejected.as_ref().map(|rejected| RejectedJson {
                generation: rejected.generation,
                api_error: rejected.api_error.as_deref().map(Free),
            }),
        }
    }
}

#[derive(Serialize)]
struct UpstreamJson<'a> {
    address: Option<Shown<std::net::SocketAddr>>,
    reused: bool,
    status: Option<u16>,
    api_error: Option<Free<'a>>,
    replayed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    echoed: bool,
}

impl<'a> UpstreamJson<'a> {
    fn of(part: &'a UpstreamPart) -> Self {
        Self {
            address: part.address.map(Shown),
            reused: part.reused,
            status: part.status,
            api_error: part.api_error.as_deref().map(Free),
            replayed: part.replayed,
            echoed: part.echoed,
        }
    }
}

#[derive(Serialize)]
struct BytesJson {
    request: u64,
    response: u64,
}

#[derive(Serialize)]
struct TimingJson {
    identify: u64,
    authorize: u64,
    credential: u64,
    connect: u64,
    first_byte: Option<u64>,
    total: u64,
}

impl TimingJson {
    fn of(entry: &Entry, total: Duration) -> Self {
        let timing = &entry.timing;
        Self {
            identify: micros(timing.identify),
            authorize: micros(timing.authorize),
            credential: micros(timing.credential),
            connect: micros(timing.connect),
            first_byte: timing.first_byte.map(micros),
            total: micros(total),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[derive(Serialize)]
struct NearestJson<'a> {
    policy: &'a str,
    rule: Option<usize>,
    mismatches: Vec<MismatchJson<'a>>,
}

#[derive(Serialize)]
struct MismatchJson<'a> {
    what: &'static str,
    expected: Free<'a>,
    actual: Free<'a>,
}

impl<'a> NearestJson<'a> {
    fn of(nearest: &'a Nearest) -> Self {
        let mismatch = |mismatch: &'a Mismatch| MismatchJson {
            what: mismatch.what,
            expected: Free(&mismatch.expected),
            actual: Free(&mismatch.actual),
        };
        Self {
            policy: nearest.policy.name.as_str(),
            rule: nearest.rule,
            mismatches: nearest.mismatches.iter().map(mismatch).collect(),
        }
    }
}

/// Written as it displays, without a string in between.
struct Shown<T>(T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Text that a caller or an upstream wrote: redacted.
struct Free<'a>(&'a str);

impl Serialize for Free<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&redact(self.0))
    }
}

/// JSON in which no character can disturb a terminal: besides what JSON must escape, DEL, the C1
/// controls, line separators and bidirectional overrides are written as `\u` escapes. Nothing is
/// lost: a JSON reader gets the same text back.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // Nearly always; what is below a space does not come here.
        if fragment.bytes().all(|byte| byte < 0x7f) {
            return CompactFormatter.write_string_fragment(writer, fragment);
        }
        let mut rest = fragment;
        while let Some(at) = rest.find(needs_escape) {
            let (plain, tail) = rest.split_at(at);
            CompactFormatter.write_string_fragment(writer, plain)?;
            let mut characters = tail.chars();
            if let Some(character) = characters.next() {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            rest = characters.as_str();
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        CompactFormatter.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
mod tests;
