//! The decision record as JSON: one line, keys in the order of `docs/decision-record.md`.
//!
//! Keys are always present, `null` if unknown, so that a reader need not guess. Only `listener`,
//! `original_destination`, `refused_token`, `revision`, `nearest`, `detail` and `would_refuse`, which belong to some records only, are
//! left out.

use std::time::Duration;

use countersign_config::{
    model::{Mode, ResourceName, Workload},
    policy::{Mismatch, Nearest, PodFacts},
};
use countersign_core::{metrics::Class, redact::redact};
use countersign_identity::SignedClaims;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    super::{
        CallerPart, CredentialPart, Entry, PathOnly, PolicyPart, RejectedPart, TargetPart,
        UpstreamPart,
        closed::Closed,
        json::{Key, Object, key},
    },
    digest::Summary,
    shed::Tally,
};

/// The record's schema; a change that would surprise a reader gets a new one.
pub(super) const SCHEMA: &str = "countersign.decision/v1";

/// The schema of the line for records that were lost.
pub(super) const DROPPED_SCHEMA: &str = "countersign.dropped/v1";

/// The schema of the line for refusals that were counted and not written.
const SUMMARY_SCHEMA: &str = "countersign.summary/v1";

/// The schema of the line for connections that were closed in favour of others.
const SHED_SCHEMA: &str = "countersign.shed/v1";

/// The longest line: container runtimes split what is longer than 16 KiB.
const LINE_BYTES: usize = 15 * 1024;

/// The longest text in a line that would be too long, in bytes; paths and details may take a few times as
/// much.
const TEXT_BYTES: usize = 256;

/// The longest list of mismatches in a line that would be too long.
const MISMATCHES: usize = 6;

/// Appends the record and a line feed.
pub(super) fn write_line(closed: &Closed, line: &mut Vec<u8>) {
    let start = line.len();
    write_within(usize::MAX, closed, line);
    if line.len() - start > LINE_BYTES {
        line.truncate(start);
        write_within(TEXT_BYTES, closed, line);
    }
}

fn write_within(most: usize, closed: &Closed, line: &mut Vec<u8>) {
    let mut json = Object::open_within(line, most);
    decision(&mut json, closed);
    json.close();
    line.push(b'\n');
}

/// Appends the line for refusals beyond a rate.
pub(super) fn write_summary(summary: &Summary, time: Timestamp, line: &mut Vec<u8>) {
    let mut json = Object::open_within(line, TEXT_BYTES);
    json.text(key!("schema"), SUMMARY_SCHEMA);
    json.shown(key!("time"), Some(format_args!("{time:.3}")));
    json.text(key!("class"), summary.class.name());
    json.object(key!("workload"), summary.workload.as_deref(), workload);
    json.text(key!("subject"), summary.subject.as_deref());
    json.number(key!("count"), summary.count);
    json.shown(key!("first"), Some(format_args!("{:.3}", summary.first)));
    json.shown(key!("last"), Some(format_args!("{:.3}", summary.last)));
    let reasons = summary.reasons.iter().filter(|reason| reason.count > 0);
    json.list(key!("reasons"), reasons, |json, reason| {
        json.text(key!("reason"), reason.reason);
        json.number(key!("count"), reason.count);
    });
    json.list(
        key!("sources"),
        summary.sources.named(),
        |json, (address, count)| {
            json.shown(key!("address"), Some(address));
            json.number(key!("count"), count);
        },
    );
    json.list(
        key!("targets"),
        summary.targets.named(),
        |json, (authority, count)| {
            json.shown(key!("authority"), Some(authority));
            json.number(key!("count"), count);
        },
    );
    json.close();
    line.push(b'\n');
}

/// Appends the line for connections that were closed in favour of others.
pub(super) fn write_shed(tally: &Tally, time: Timestamp, line: &mut Vec<u8>) {
    let mut json = Object::open(line);
    json.text(key!("schema"), SHED_SCHEMA);
    json.shown(key!("time"), Some(format_args!("{time:.3}")));
    json.text(key!("class"), tally.class.name());
    json.number(key!("count"), tally.count);
    json.shown(key!("first"), Some(format_args!("{:.3}", tally.first)));
    json.shown(key!("last"), Some(format_args!("{:.3}", tally.last)));
    json.list(key!("reasons"), &tally.reasons, |json, (reason, count)| {
        json.text(key!("reason"), *reason);
        json.number(key!("count"), *count);
    });
    json.list(
        key!("sources"),
        tally.sources.named(),
        |json, (address, count)| {
            json.shown(key!("address"), Some(address));
            json.number(key!("count"), count);
        },
    );
    json.close();
    line.push(b'\n');
}

/// Appends the line for `count` lost records.
pub(super) fn write_dropped(count: u64, class: Class, time: Timestamp, line: &mut Vec<u8>) {
    let mut json = Object::open(line);
    json.text(key!("schema"), DROPPED_SCHEMA);
    json.number(key!("count"), count);
    json.text(key!("class"), class.name());
    json.shown(key!("time"), Some(format_args!("{time:.3}")));
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
    json.text(key!("schema"), SCHEMA);
    json.shown(key!("time"), Some(format_args!("{time:.3}")));
    let id = &mut Uuid::encode_buffer();
    json.text(key!("id"), &*entry.id.hyphenated().encode_lower(id));
    json.shown(key!("trace_id"), entry.trace_id);
    json.text(key!("outcome"), outcome.name());
    json.text(key!("reason"), outcome.reason());
    json.text(key!("blame"), outcome.blame());
    if let Some(listener) = &entry.listener {
        json.text(key!("listener"), &**listener);
    }
    if let Some(address) = entry.original_destination {
        json.address(key!("original_destination"), Some(address));
    }
    // Empty only if not even the peer's address is known.
    let known = entry.caller.is_some() || entry.client.is_some();
    json.object(key!("caller"), known.then_some(entry), caller);
    if let Some(claims) = &entry.refused_token {
        json.object(key!("refused_token"), Some(&**claims), refused_token);
    }
    json.object(key!("workload"), entry.workload.as_deref(), workload);
    json.object(key!("policy"), entry.policy.as_ref(), policy);
    json.object(key!("target"), entry.target.as_ref(), target);
    json.object(key!("credential"), entry.credential.as_ref(), credential);
    json.object(key!("upstream"), entry.upstream.as_ref(), upstream);
    json.object(key!("bytes"), Some(()), |json, ()| {
        json.number(key!("request"), *request);
        json.number(key!("response"), *response);
    });
    json.object(key!("timing_us"), Some(*total), |json, total| {
        timing(json, entry, total);
    });
    if let (None, Some(revision)) = (&entry.policy, &entry.revision) {
        json.text(key!("revision"), &**revision);
    }
    if let Some(nearest) = entry.nearest.as_deref() {
        json.object(key!("nearest"), Some(nearest), nearest_rule);
    }
    if let Some(detail) = &entry.detail {
        let most = json.most().saturating_mul(4);
        json.sentence(key!("detail"), &redact(detail), most);
    }
}

fn caller(json: &mut Object<'_>, entry: &Entry) {
    let caller = entry.caller.as_deref();
    let text = |field: fn(&CallerPart) -> Option<&str>| caller.and_then(field);
    json.text(key!("proof"), text(|caller| Some(caller.proof)));
    json.text(key!("issuer"), text(|caller| caller.issuer.as_deref()));
    json.text(key!("subject"), text(|caller| caller.subject.as_deref()));
    json.text(key!("pod"), text(|caller| caller.pod.as_deref()));
    json.text(key!("token_id"), text(|caller| caller.token_id.as_deref()));
    json.address(key!("client"), entry.client);
    if let Some(pod) = caller.and_then(|caller| caller.kubernetes.as_deref()) {
        json.object(key!("kubernetes"), Some(pod), kubernetes);
    }
}

/// What the Kubernetes API said of the pod; only if it was asked.
fn kubernetes(json: &mut Object<'_>, pod: &PodFacts) {
    json.text(key!("node"), pod.node.as_deref());
    json.text(key!("job"), pod.job.as_deref());
    json.text(key!("cron_job"), pod.cron_job.as_deref());
}

/// The token is signed, and what it says is free text nevertheless.
fn refused_token(json: &mut Object<'_>, claims: &SignedClaims) {
    json.text(key!("issuer"), &*claims.issuer);
    free(json, key!("subject"), claims.subject.as_deref());
    json.text(key!("namespace"), claims.namespace.as_deref());
    json.text(key!("service_account"), claims.service_account.as_deref());
    free(json, key!("pod"), claims.pod.as_deref());
    let audiences: Vec<_> = claims.audiences.iter().map(|name| redact(name)).collect();
    json.texts(key!("audiences"), audiences.iter().map(|name| &**name));
    free(json, key!("token_id"), claims.token_id.as_deref());
}

fn workload(json: &mut Object<'_>, workload: &Workload) {
    json.text(key!("name"), workload.name.as_str());
    json.text(key!("owner"), &*workload.owner);
    json.text(key!("environment"), workload.environment.as_deref());
}

fn policy(json: &mut Object<'_>, part: &PolicyPart) {
    json.text(key!("name"), part.policy.name.as_str());
    json.number(key!("rule"), part.rule.map(|rule| rule as u64));
    json.text(
        key!("mode"),
        match part.policy.mode {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
        },
    );
    json.text(key!("revision"), &*part.revision);
    if let Some(reason) = part.would_refuse {
        json.text(key!("would_refuse"), reason);
    }
}

fn target(json: &mut Object<'_>, part: &TargetPart) {
    json.text(key!("name"), part.name.as_ref().map(ResourceName::as_str));
    json.shown(key!("authority"), Some(&part.authority));
    json.text(
        key!("method"),
        part.method.as_ref().map(http::Method::as_str),
    );
    path(json, part.path.as_ref().map(PathOnly::as_str));
    json.text(key!("protocol"), part.protocol);
}

fn credential(json: &mut Object<'_>, part: &CredentialPart) {
    json.text(key!("name"), part.name.as_str());
    json.text(key!("slot"), &*part.slot);
    json.number(key!("generation"), part.generation);
    json.number(key!("age_s"), part.age_s);
    json.number(key!("expires_in_s"), part.expires_in_s);
    if part.stale {
        json.flag(key!("stale"), true);
    }
    if let Some(part) = part.rejected.as_deref() {
        json.object(key!("rejected"), Some(part), rejected);
    }
}

fn rejected(json: &mut Object<'_>, part: &RejectedPart) {
    json.number(key!("generation"), part.generation);
    free(json, key!("api_error"), part.api_error.as_deref());
}

fn upstream(json: &mut Object<'_>, part: &UpstreamPart) {
    json.address(key!("address"), part.address);
    json.flag(key!("reused"), part.reused);
    json.number(key!("status"), part.status.map(u64::from));
    free(json, key!("api_error"), part.api_error.as_deref());
    json.flag(key!("replayed"), part.replayed);
    if part.echoed {
        json.flag(key!("echoed"), true);
    }
}

fn timing(json: &mut Object<'_>, entry: &Entry, total: Duration) {
    let timing = &entry.timing;
    json.number(key!("identify"), micros(timing.identify));
    json.number(key!("authorize"), micros(timing.authorize));
    json.number(key!("credential"), micros(timing.credential));
    json.number(key!("connect"), micros(timing.connect));
    json.number(key!("first_byte"), timing.first_byte.map(micros));
    json.number(key!("total"), micros(total));
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn nearest_rule(json: &mut Object<'_>, nearest: &Nearest) {
    json.text(key!("policy"), nearest.policy.name.as_str());
    json.number(key!("rule"), nearest.rule.map(|rule| rule as u64));
    let most = if json.most() == usize::MAX {
        usize::MAX
    } else {
        MISMATCHES
    };
    let mismatches = nearest.mismatches.iter().take(most);
    json.list(key!("mismatches"), mismatches, mismatch);
}

fn mismatch(json: &mut Object<'_>, mismatch: &Mismatch) {
    json.text(key!("what"), mismatch.what);
    free(json, key!("expected"), Some(&mismatch.expected));
    free(json, key!("actual"), Some(&mismatch.actual));
}

/// A caller's path, redacted.
fn path(json: &mut Object<'_>, path: Option<&str>) {
    let most = json.most().saturating_mul(8);
    json.text_within(key!("path"), path.map(redact).as_deref(), most);
}

/// Text that a caller or an upstream wrote: redacted.
fn free(json: &mut Object<'_>, key: Key, text: Option<&str>) {
    let redacted = text.map(redact);
    json.text(key, redacted.as_deref());
}

#[cfg(test)]
mod tests;
