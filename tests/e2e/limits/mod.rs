//! Bounds that hold under attack: memory, places, time, and what it costs to look at a proof. Refused
//! means: a reason code in the answer or the record, others served, and everything given back when the
//! attacker is gone.

mod bad_tokens;
mod certificate_chains;
mod connections;
mod container;
mod http2_frames;
mod memory;
