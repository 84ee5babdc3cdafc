//! The memory that peers can make a gateway hold: for each holder the size of one, how many there can
//! be, and what happens at the limit. The gateway takes its sizes from here, validation compares an
//! operator's bounds with them, and `docs/budgets.md` shows them.
//!
//! `limits.memory` is the budget for everything that peers can make grow. Things with bounds of their
//! own (the process, its caches and queues) are not part of the budget; they use the rest of the
//! container's memory.

mod table;

pub use table::{Account, Holder, in_binary, render};

use crate::Limits;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The budget is the container's memory divided by this. The rest is for the process itself, the
/// allocator (which keeps freed memory) and the kernel's buffers for our sockets.
pub const PART: u64 = 2;

/// The container's memory in the Helm chart, used as the default.
pub const CHART: u64 = 256 * MIB;

/// The smallest useful budget.
pub const LEAST: u64 = 16 * MIB;

/// A client's connection: its tasks, hyper's two buffers of 8 KiB, TLS.
pub const CONNECTION: u64 = 24 * KIB;

/// The additional memory of an intercepted tunnel: a second TLS session, and its state.
pub const TUNNEL: u64 = 8 * KIB;

/// The same over HTTP/2, where the tunnel has buffers of its own.
pub const TUNNEL_OVER_HTTP2: u64 = CONNECTION;

/// A tunnelled stream: a buffer in each direction.
pub const CARRIED: u64 = 2 * PUMP_BUFFER;

/// The buffer of a tunnelled stream in one direction.
pub const PUMP_BUFFER: u64 = 16 * KIB;

/// The largest request head on an unidentified connection.
pub const UNIDENTIFIED_HEAD: u64 = 16 * KIB;

/// The longest TLS handshake message that is reassembled (RFC 8446 allows 16 MiB; this is rustls'
/// limit).
pub const HANDSHAKE: u64 = 64 * KIB;

/// Concurrent requests on a client's HTTP/2 connection.
pub const STREAMS: u64 = 128;

/// The receive window of one client stream.
pub const STREAM_WINDOW: u64 = 256 * KIB;

/// The receive window of a client connection.
pub const CONNECTION_WINDOW: u64 = 512 * KIB;

/// [`STREAM_WINDOW`] and [`CONNECTION_WINDOW`] of an unidentified connection.
pub const UNIDENTIFIED_WINDOW: u64 = 64 * KIB;

/// The total of all HTTP/2 frames that a connection may send before its first proof.
pub const UNIDENTIFIED_TOTAL: u64 = 256 * KIB;

/// The send buffer of a stream.
pub const SEND_BUFFER: u64 = 16 * KIB;

/// A request in progress over HTTP/2, without its head: its send buffers and state.
pub const REQUEST: u64 = 2 * SEND_BUFFER;

/// A body that is so small that it needs no memory beyond its request's.
pub const SMALL_BODY: u64 = 8 * KIB;

/// The largest chunk of a response over HTTP/1.1, and the buffer that it is read into.
pub const PIECE: u64 = 64 * KIB;

/// A response that its client does not read: the buffer read ahead from an HTTP/1.1 upstream, one chunk,
/// and the data waiting to be sent.
pub const ANSWER: u64 = 3 * PIECE;

/// The receive window of one upstream response over HTTP/2.
pub const UPSTREAM_WINDOW: u64 = 256 * KIB;

/// A request's body that its upstream does not read: the data waiting to be written.
pub const UPLOAD: u64 = PIECE;

/// An upstream connection, in use or idle: its TLS session, and its read and write buffers.
pub const UPSTREAM: u64 = 32 * KIB;

/// The first bytes of a redirected client: the bytes, and the reassembled message, whose buffer doubles.
pub const FIRST_BYTES: u64 = 3 * HANDSHAKE;

/// A form is read into one buffer, and the part that is kept is written to another.
pub const FORM_FACTOR: u64 = 2;

/// What is held back of a multipart form that streams through its check.
pub const MULTIPART: u64 = 8 * KIB;

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

/// The most connections that fit into `memory`.
pub const fn most_connections(memory: u64) -> u64 {
    memory / (CONNECTION + TUNNEL)
}

/// A bound that does not fit into the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// Its key under `limits`.
    pub key: &'static str,
    /// The memory that it could use, in bytes.
    pub product: u64,
    /// The memory that is available for it, in bytes.
    pub room: u64,
    /// The largest value that fits.
    pub most: u64,
}

/// Every bound of `limits` that does not fit into `memory` bytes.
pub fn excesses(limits: &Limits, memory: u64) -> Vec<Excess> {
    let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    // One item must fit even if one workload holds as much as it may.
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

/// Reduces the number of connections to what fits into `memory`.
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
