//! What the gateway and the relay have in common on a client's connection: what its first bytes
//! are, where it was going, how its requests are framed, what is in progress on it, and the timers
//! that watch it.

pub mod activity;
pub mod first_bytes;
pub mod frames;
pub mod framing;
pub mod half_closed;
pub mod hop_by_hop;
pub mod lines;
pub mod listen;
pub mod meter;
pub mod original_destination;
pub mod overrides;
pub mod protocol;
pub mod rewound;
pub mod sniff;
pub mod stream;
pub mod timer;
