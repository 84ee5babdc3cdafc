//! Countersign: an egress proxy that proves which workload calls, decides by policy whether it
//! may make this very request now, obtains the credential just in time, puts it on the request,
//! and records what it did.
//!
//! [`pipeline`] tells the story of one request; every other module is a step of it.

pub mod accept;
pub mod app;
pub mod authorize;
pub mod ca;
pub mod observe;
pub mod pipeline;
pub mod probe;
pub mod refusal;
