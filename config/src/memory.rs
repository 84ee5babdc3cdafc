//! What peers can make a gateway hold: for each holder how much one is, how many there may be, and
//! what sheds it. The gateway takes its sizes from here, validation compares an operator's bounds
//! with them, and `docs/budgets.md` shows them.
//!
//! `limits.memory` is the budget of all that grows by what peers do. What has bounds of its own (the
//! process, its caches and queues) lies beside it, in the part of the container's memory that the
//! budget leaves free.

mod table;

pub use table::{Holder, Place, in_binary, render};

use crate::model::Limits;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The budget is the container's memory divided by this. The rest is the process's own, the
/// allocator's (which keeps what was freed) and the kernel's for our sockets.
pub const PART: u64 = 2;

/// The container's memory unless an operator says otherwise: the chart's.
pub const CHART: u64 = 256 * MIB;

/// The least budget that serves anyone.
pub const LEAST: u64 = 16 * MIB;

/// A client's connection: its tasks, hyper's two buffers of 8 KiB, TLS.
pub const CONNECTION: u64 = 24 * KIB;

/// What an intercepted tunnel needs besides: a second TLS session, and a session's state.
pub const TUNNEL: u64 = 8 * KIB;

/// The same over HTTP/2, where it has buffers of its own.
pub const TUNNEL_OVER_HTTP2: u64 = CONNECTION;

/// A stream that is carried unread: a buffer in each direction.
pub const CARRIED: u64 = 2 * PUMP_BUFFER;

/// The buffer of a carried stream in one direction.
pub const PUMP_BUFFER: u64 = 16 * KIB;

/// The head of a request on a connection that no proven request has come on yet.
pub const UNIDENTIFIED_HEAD: u64 = 16 * KIB;

/// The longest TLS handshake message that is put together (RFC 8446 allows 16 MiB; rustls this).
pub const HANDSHAKE: u64 = 64 * KIB;

/// Requests at once on a client's HTTP/2 connection.
pub const STREAMS: u64 = 128;

/// What one stream of a client may send before it is read.
pub const STREAM_WINDOW: u64 = 256 * KIB;

/// The same of all streams of a connection together.
pub const CONNECTION_WINDOW: u64 = 512 * KIB;

/// [`STREAM_WINDOW`] and [`CONNECTION_WINDOW`] of a connection that came without proof.
pub const UNIDENTIFIED_WINDOW: u64 = 64 * KIB;

/// All that a connection may send over HTTP/2 before any proof, in frames of whatever kind.
pub const UNIDENTIFIED_TOTAL: u64 = 256 * KIB;

/// What may wait to be sent on a stream.
pub const SEND_BUFFER: u64 = 16 * KIB;

/// A request in progress over HTTP/2, without its head: what waits to be sent, and the state.
pub const REQUEST: u64 = 2 * SEND_BUFFER;

/// A body that is small enough to cost nothing more than its request.
pub const SMALL_BODY: u64 = 8 * KIB;

/// A piece of an answer over HTTP/1.1, and the buffer that it is read into.
pub const PIECE: u64 = 64 * KIB;

/// An answer whose client does not take it: what is read ahead of an upstream of HTTP/1.1, a piece, and
/// what waits to be sent.
pub const ANSWER: u64 = 3 * PIECE;

/// What an upstream may send of one answer over HTTP/2 before it is read.
pub const UPSTREAM_WINDOW: u64 = 256 * KIB;

/// A request's body that its upstream does not take: what waits to be written.
pub const UPLOAD: u64 = PIECE;

/// A connection to an upstream, in use or at rest: its TLS session, and the buffers it is read into and
/// written from.
pub const UPSTREAM: u64 = 32 * KIB;

/// What a steered client says first: the bytes, and the message that they are put together to, whose
/// buffer doubles.
pub const FIRST_BYTES: u64 = 3 * HANDSHAKE;

/// A form is read into one buffer, and what is kept of it is written to another.
pub const FORM_FACTOR: u64 = 2;

/// A head is read into a buffer that doubles.
pub const HEAD_FACTOR: u64 = 2;

/// The records that wait to be written, and the batch that is being written.
pub const DECISIONS: u64 = 16 * MIB;

/// The most that one workload may hold while no other holds anything.
pub const fn alone(memory: u64) -> u64 {
    memory / 3 * 2
}

/// The most that all unidentified connections may hold together.
pub const fn unidentified(memory: u64) -> u64 {
    memory / 3
}

/// So many connections are the most that `memory` holds.
pub const fn most_connections(memory: u64) -> u64 {
    memory / (CONNECTION + TUNNEL)
}

/// A bound that `memory` cannot keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// Its key under `limits`.
    pub key: &'static str,
    /// What it comes to, in bytes.
    pub product: u64,
    /// What there is for it, in bytes.
    pub room: u64,
    /// The largest value that fits.
    pub most: u64,
}

/// Every bound of `limits` that `memory` bytes cannot keep.
pub fn excesses(limits: &Limits, memory: u64) -> Vec<Excess> {
    let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    // One item must fit beside a workload that holds all it may.
    let room = memory / 3;
    let items = [
        ("headBytes", bytes(limits.head_bytes), HEAD_FACTOR),
        ("formBytes", bytes(limits.form_bytes), FORM_FACTOR),
        ("replayBytes", bytes(limits.replay_bytes), 1),
        ("inspectBytes", bytes(limits.inspect_bytes), 1),
    ];
    let connections = (
        "connections",
        bytes(limits.connections),
        CONNECTION + TUNNEL,
        memory,
    );
    let strangers = (
        "unidentified",
        bytes(limits.unidentified.connections),
        CONNECTION,
        unidentified(memory),
    );
    items
        .into_iter()
        .map(|(key, count, each)| (key, count, each, room))
        .chain([connections, strangers])
        .filter(|(_, count, each, room)| count.saturating_mul(*each) > *room)
        .map(|(key, count, each, room)| Excess {
            key,
            product: count.saturating_mul(each),
            room,
            most: room / each,
        })
        .collect()
}

/// As many connections as `memory` holds, if that is fewer.
pub fn fit(limits: &mut Limits, memory: u64) {
    let fewer = |count: &mut usize, most| {
        *count = usize::try_from(most).unwrap_or(usize::MAX).min(*count);
    };
    fewer(&mut limits.connections, most_connections(memory));
    let strangers = unidentified(memory) / CONNECTION;
    fewer(&mut limits.unidentified.connections, strangers);
    let connections = limits.unidentified.connections;
    fewer(&mut limits.unidentified.per_source, connections as u64);
}

#[cfg(test)]
mod tests;
