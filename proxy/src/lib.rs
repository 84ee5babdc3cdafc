//! Countersign: an egress proxy that proves which workload calls, decides by policy whether it
//! may make this very request now, obtains the credential just in time, puts it on the request,
//! and records what it did.
//!
//! [`pipeline`] tells the story of one request; every other module is a step of it.

pub mod accept;
pub mod app;
pub mod authorize;
pub mod bearer;
pub mod budget;
pub mod ca;
pub mod chain;
mod ciphers;
pub mod cli;
pub mod clock;
pub mod control_plane;
pub mod credential;
pub mod destination;
pub mod detect;
mod files;
mod flight;
pub mod forward;
pub mod health;
pub mod identify;
pub mod inject;
pub mod kube;
pub mod logging;
pub mod metrics;
pub mod observe;
mod outage;
pub mod pipeline;
pub mod probe;
mod reaper;
pub mod reason;
pub mod redact;
pub mod refusal;
pub mod relay;
pub mod secret;
mod secret_file;
pub mod slots;
pub mod steer;
pub mod vault;
pub mod wire;
