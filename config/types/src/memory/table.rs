//! The table of holders.

use std::fmt::Write as _;

use super::{
    CARRIED, CONNECTION, CONNECTION_WINDOW, DECISIONS, FIRST_BYTES, FORM_FACTOR, HANDSHAKE,
    HEAD_FACTOR, KIB, MIB, MULTIPART, REQUEST, SEND_BUFFER, STREAMS, TUNNEL, TUNNEL_OVER_HTTP2,
    UNIDENTIFIED_HEAD, UNIDENTIFIED_WINDOW, UPLOAD, UPSTREAM, UPSTREAM_WINDOW, alone, unidentified,
};
use crate::Limits;

/// Any number.
const ANY: u64 = u64::MAX;

/// Where a holder's memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// The part of `limits.memory` that unidentified connections share.
    Unidentified,
    /// The part of `limits.memory` that one workload can have.
    Workload,
    /// Not part of the budget; has a bound of its own.
    Outside,
}

/// Something that peers can make grow.
#[derive(Debug, Clone, Copy)]
pub struct Holder {
    /// What it is.
    pub what: &'static str,
    /// The bound for one, in bytes.
    pub one: u64,
    /// How many there can be; `ANY` if only the memory limits their number.
    pub many: u64,
    /// Where it comes from.
    pub account: Account,
    /// What happens at the limit.
    pub sheds: &'static str,
}

impl Holder {
    /// Bound times count.
    pub fn product(&self) -> u64 {
        self.one.saturating_mul(self.many)
    }

    /// The most that all of this kind can hold: the product, or the memory of their account if that is
    /// less.
    pub fn most(&self, memory: u64) -> u64 {
        match self.account {
            Account::Unidentified => self.product().min(unidentified(memory)),
            Account::Workload => self.product().min(alone(memory)),
            Account::Outside => self.product(),
        }
    }

    /// All holders of a gateway with these bounds.
    pub fn all(limits: &Limits) -> Vec<Self> {
        let mut all = unproven(limits);
        all.extend(proven(limits));
        all.extend(requests(limits));
        all.extend(outside(limits));
        all
    }
}

const CLOSED: &str = "the oldest unidentified connection is closed, then the new one";
const REFUSED: &str =
    "503 `memory_share` for the workload that holds most, 503 `memory_short` for others";

/// The limits of one listener.
fn unproven(limits: &Limits) -> Vec<Holder> {
    let connections = count(limits.unidentified.connections);
    let head = count(limits.head_bytes).min(UNIDENTIFIED_HEAD);
    let of = |what, one, sheds| Holder {
        what,
        one,
        many: connections,
        account: Account::Unidentified,
        sheds,
    };
    vec![
        of("a connection without proof", CONNECTION, CLOSED),
        of("its TLS handshake", 2 * HANDSHAKE, CLOSED),
        of(
            "the first bytes of a redirected client",
            FIRST_BYTES,
            CLOSED,
        ),
        of(
            "its head, HTTP/1.1",
            HEAD_FACTOR * head,
            "431 `head_too_large`; closed",
        ),
        of(
            "its header blocks and windows, HTTP/2",
            UNIDENTIFIED_WINDOW + HEAD_FACTOR * head,
            CLOSED,
        ),
        Holder {
            many: ANY,
            ..of(
                "a tunnel in which a refused token is told of",
                TUNNEL_OVER_HTTP2,
                "CONNECT is refused",
            )
        },
    ]
}

const OF_CONNECTION: &str = "closed with `memory_share` or `memory_short`";

fn of_workload(what: &'static str, one: u64, many: u64, sheds: &'static str) -> Holder {
    Holder {
        what,
        one,
        many,
        account: Account::Workload,
        sheds,
    }
}

/// The memory of identified callers' connections.
fn proven(limits: &Limits) -> Vec<Holder> {
    let connections = count(limits.connections);
    let head = count(limits.head_bytes);
    let of = of_workload;
    vec![
        of(
            "a connection with its tunnel",
            CONNECTION + TUNNEL,
            connections,
            REFUSED,
        ),
        of(
            "a tunnel's TLS handshake",
            2 * HANDSHAKE,
            connections,
            REFUSED,
        ),
        of(
            "a head, HTTP/1.1",
            HEAD_FACTOR * head,
            connections,
            "431 `head_too_large`; closed",
        ),
        of(
            "header blocks and windows, HTTP/2",
            CONNECTION_WINDOW + HEAD_FACTOR * head,
            connections,
            OF_CONNECTION,
        ),
    ]
}

/// The memory of their requests, and of the tunnels that they open.
fn requests(limits: &Limits) -> Vec<Holder> {
    let streams = count(limits.connections).saturating_mul(STREAMS);
    let head = count(limits.head_bytes);
    let of = of_workload;
    vec![
        of(
            "a request in progress, HTTP/2",
            REQUEST + head,
            streams,
            REFUSED,
        ),
        of(
            "a form",
            FORM_FACTOR * count(limits.form_bytes),
            streams,
            REFUSED,
        ),
        of(
            "a multipart form, while it is checked",
            MULTIPART,
            streams,
            REFUSED,
        ),
        of(
            "a request's body, kept for a replay",
            count(limits.replay_bytes),
            streams,
            "it is not kept",
        ),
        of(
            "the beginning of a response, held until it is checked",
            count(limits.inspect_bytes),
            streams,
            "it is passed on unchecked",
        ),
        of(
            "a response that its client does not read",
            SEND_BUFFER + UPSTREAM_WINDOW,
            streams,
            REFUSED,
        ),
        of(
            "a request's body that its upstream does not read",
            UPLOAD,
            streams,
            REFUSED,
        ),
        of(
            "an upstream connection, in use or idle",
            UPSTREAM,
            ANY,
            REFUSED,
        ),
        of("a tunnelled stream", CARRIED, streams, REFUSED),
        of(
            "its first bytes, held back until the destination is known",
            HEAD_FACTOR * head,
            streams,
            OF_CONNECTION,
        ),
    ]
}

fn outside(limits: &Limits) -> Vec<Holder> {
    let of = |what, one, many, sheds| Holder {
        what,
        one,
        many,
        account: Account::Outside,
        sheds,
    };
    let oldest = "the least recently used is dropped";
    vec![
        of("the idle process", 21 * MIB, 1, "nothing"),
        of(
            "records that wait to be written",
            DECISIONS,
            1,
            "the record is dropped and counted",
        ),
        of("leaf certificates", 8 * KIB, limits.leaves, oldest),
        of("identified callers", 3 * KIB / 2, 10_000, oldest),
        of("credentials of one caller each", KIB, 10_000, oldest),
        of("upstream addresses", 128, 16 * 1024, oldest),
        of("resolved names", KIB, 4_096, oldest),
        of("admin connections", 32 * KIB, 64, "the next one waits"),
        of(
            "connections that wait for their first turn",
            256,
            count(limits.unidentified.connections),
            "the oldest of its source is closed",
        ),
    ]
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The table in Markdown.
pub fn render(limits: &Limits, memory: u64) -> String {
    let mut text = String::from(
        "| what | one | how many | product | at most | from | what happens at the limit |\n|---|---|---|---|---|---|---|\n",
    );
    for holder in Holder::all(limits) {
        let account = match holder.account {
            Account::Unidentified => "unidentified",
            Account::Workload => "its workload",
            Account::Outside => "outside the budget",
        };
        let (many, product) = match holder.many {
            ANY => ("any".into(), "any".into()),
            many => (many.to_string(), in_binary(holder.product())),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {many} | {product} | {} | {account} | {} |",
            holder.what,
            in_binary(holder.one),
            in_binary(holder.most(memory)),
            holder.sheds,
        );
    }
    text
}

/// Bytes, in the largest binary unit that gives at least two.
pub fn in_binary(bytes: u64) -> String {
    let units = [(MIB * KIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= 2 * unit) {
        Some((unit, name)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} B"),
    }
}
