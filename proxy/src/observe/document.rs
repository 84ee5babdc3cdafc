//! The decision record as JSON: one line, keys in the order of `docs/decision-record.md`.
//!
//! Keys are always there, `null` when unknown, so that a reader need not guess; only `listener`,
//! `original_destination`, `nearest`, `detail` and `would_refuse`, which belong to some records only, are left out.

use std::time::Duration;

use countersign_config::{
    model::{Mode, ResourceName, Workload},
    policy::{Mismatch, Nearest},
};
use jiff::Timestamp;

use super::{
    CallerPart, CredentialPart, Entry, PathOnly, PolicyPart, RejectedPart, TargetPart,
    UpstreamPart, json::Object, record::Closed, redact::redact,
};

/// The record's schema; a change that would surprise a reader gets a new one.
pub(super) const SCHEMA: &str = "countersign.decision/v1";

/// The schema of a line that stands for records which were lost.
pub(super) const DROPPED_SCHEMA: &str = "countersign.dropped/v1";

/// Appends the record and a line feed.
pub(super) fn write_line(closed: &Closed, line: &mut Vec<u8>) {
    let mut json = Object::open(line);
    decision(&mut json, closed);
    json.close();
    line.push(b'\n');
}

/// Appends the line that stands for `count` lost records.
pub(super) fn write_dropped(count: u64, time: Timestamp, line: &mut Vec<u8>) {
    let mut json = Object::open(line);
    json.text("schema", DROPPED_SCHEMA);
    json.number("count", count);
    json.shown("time", Some(format_args!("{time:.3}")));
    json.close();
    line.push(b'\n');
}

fn decision(json: &mut Object<'_>, closed: &Closed) {
    let Closed {
        time,
        entry,
        outcome,
        total,
        bytes: (request, response),
    } = closed;
    json.text("schema", SCHEMA);
    json.shown("time", Some(format_args!("{time:.3}")));
    json.shown("id", Some(entry.id));
    json.shown("trace_id", entry.trace_id);
    json.text("outcome", outcome.name());
    json.text("reason", outcome.reason());
    json.text("blame", outcome.blame());
    if let Some(listener) = &entry.listener {
        json.text("listener", &**listener);
    }
    if let Some(address) = entry.original_destination {
        json.shown("original_destination", Some(address));
    }
    // Nothing only if not even the peer's address is known.
    let known = entry.caller.is_some() || entry.client.is_some();
    json.object("caller", known.then_some(entry), caller);
    json.object("workload", entry.workload.as_deref(), workload);
    json.object("policy", entry.policy.as_ref(), policy);
    json.object("target", entry.target.as_ref(), target);
    json.object("credential", entry.credential.as_ref(), credential);
    json.object("upstream", entry.upstream.as_ref(), upstream);
    json.object("bytes", Some(()), |json, ()| {
        json.number("request", *request);
        json.number("response", *response);
    });
    json.object("timing_us", Some(*total), |json, total| {
        timing(json, entry, total);
    });
    if let Some(nearest) = &entry.nearest {
        json.object("nearest", Some(nearest), nearest_rule);
    }
    if let Some(detail) = &entry.detail {
        free(json, "detail", Some(detail));
    }
}

fn caller(json: &mut Object<'_>, entry: &Entry) {
    let caller = entry.caller.as_deref();
    let text = |field: fn(&CallerPart) -> Option<&str>| caller.and_then(field);
    json.text("proof", text(|caller| Some(caller.proof)));
    json.text("issuer", text(|caller| caller.issuer.as_deref()));
    json.text("subject", text(|caller| caller.subject.as_deref()));
    json.text("pod", text(|caller| caller.pod.as_deref()));
    json.text("token_id", text(|caller| caller.token_id.as_deref()));
    json.shown("client", entry.client);
}

fn workload(json: &mut Object<'_>, workload: &Workload) {
    json.text("name", workload.name.as_str());
    json.text("owner", &*workload.owner);
    json.text("environment", workload.environment.as_deref());
}

fn policy(json: &mut Object<'_>, part: &PolicyPart) {
    json.text("name", part.policy.name.as_str());
    json.number("rule", part.rule.map(|rule| rule as u64));
    json.text(
        "mode",
        match part.policy.mode {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
        },
    );
    json.text("revision", &*part.revision);
    if let Some(reason) = part.would_refuse {
        json.text("would_refuse", reason);
    }
}

fn target(json: &mut Object<'_>, part: &TargetPart) {
    json.text("name", part.name.as_ref().map(ResourceName::as_str));
    json.shown("authority", Some(&part.authority));
    json.text("method", part.method.as_ref().map(http::Method::as_str));
    free(json, "path", part.path.as_ref().map(PathOnly::as_str));
    json.text("protocol", part.protocol);
}

fn credential(json: &mut Object<'_>, part: &CredentialPart) {
    json.text("name", part.name.as_str());
    json.text("slot", &*part.slot);
    json.number("generation", part.generation);
    json.number("age_s", part.age_s);
    json.number("expires_in_s", part.expires_in_s);
    if part.stale {
        json.flag("stale", true);
    }
    if let Some(part) = &part.rejected {
        json.object("rejected", Some(part), rejected);
    }
}

fn rejected(json: &mut Object<'_>, part: &RejectedPart) {
    json.number("generation", part.generation);
    free(json, "api_error", part.api_error.as_deref());
}

fn upstream(json: &mut Object<'_>, part: &UpstreamPart) {
    json.shown("address", part.address);
    json.flag("reused", part.reused);
    json.number("status", part.status.map(u64::from));
    free(json, "api_error", part.api_error.as_deref());
    json.flag("replayed", part.replayed);
    if part.echoed {
        json.flag("echoed", true);
    }
}

fn timing(json: &mut Object<'_>, entry: &Entry, total: Duration) {
    let timing = &entry.timing;
    json.number("identify", micros(timing.identify));
    json.number("authorize", micros(timing.authorize));
    json.number("credential", micros(timing.credential));
    json.number("connect", micros(timing.connect));
    json.number("first_byte", timing.first_byte.map(micros));
    json.number("total", micros(total));
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn nearest_rule(json: &mut Object<'_>, nearest: &Nearest) {
    json.text("policy", nearest.policy.name.as_str());
    json.number("rule", nearest.rule.map(|rule| rule as u64));
    json.list("mismatches", &nearest.mismatches, mismatch);
}

fn mismatch(json: &mut Object<'_>, mismatch: &Mismatch) {
    json.text("what", mismatch.what);
    free(json, "expected", Some(&mismatch.expected));
    free(json, "actual", Some(&mismatch.actual));
}

/// Text that a caller or an upstream wrote: redacted.
fn free(json: &mut Object<'_>, key: &'static str, text: Option<&str>) {
    let redacted = text.map(redact);
    json.text(key, redacted.as_deref());
}

#[cfg(test)]
mod tests;
