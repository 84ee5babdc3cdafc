//! What all crates of Countersign have in common: the clock, secrets and their files, redaction,
//! reasons, metrics, logging, the budget of memory and the places of connections, TLS chains, and
//! what is common on the wire.
//!
//! It holds no policy, no credential and no proof of who calls, so that the relay can have it.

pub mod bearer;
pub mod budget;
pub mod chain;
pub mod ciphers;
pub mod clock;
pub mod destination;
pub mod files;
pub mod logging;
pub mod metrics;
pub mod open_files;
pub mod outage;
pub mod reaper;
pub mod reason;
pub mod redact;
pub mod secret;
pub mod secret_file;
pub mod single_flight;
pub mod slots;
pub mod wire;
