//! What gateway and relay share on a client's connection: its first bytes, its original destination, the
//! framing of its requests, its requests in progress, and the timers that watch it.

pub mod connection_state;
pub mod first_bytes;
pub mod frames;
pub mod framing;
pub mod half_closed;
pub mod hop_by_hop;
pub mod lines;
pub mod linger;
pub mod listen;
pub mod meter;
pub mod original_destination;
pub mod overrides;
pub mod protocol;
pub mod rewound;
pub mod sniff;
pub mod stream;
pub mod timer;
pub mod unserved;
mod writes;
