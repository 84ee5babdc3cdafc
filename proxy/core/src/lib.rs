//! What all crates of Countersign share: the clock, secrets and their files, redaction, reasons,
//! metrics, logging, the memory budget and connection slots, TLS chains, and the common parts of the
//! wire protocols.
//!
//! It contains no policy, no credential and no proof of a caller, so the relay can depend on it.

pub mod bearer;
pub mod budget;
pub mod certificate;
pub mod chain;
pub mod ciphers;
pub mod clock;
pub mod destination;
pub mod environment;
pub mod files;
pub mod gate;
pub mod http_error;
pub mod logging;
pub mod metrics;
pub mod open_files;
pub mod outage;
pub mod pem;
pub mod reaper;
pub mod reason;
pub mod redact;
pub mod secret;
pub mod secret_file;
pub mod shed;
pub mod single_flight;
pub mod slots;
pub mod tls_error;
pub mod wire;
