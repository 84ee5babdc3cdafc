//! Countersign: an egress proxy that identifies the calling workload, decides by policy whether it may make
//! this request now, obtains the credential just in time, adds it to the request, and records what it did.
//!
//! [`pipeline`] shows all steps of one request; every other module is one of them or serves them.

pub mod accept;
mod api_error;
pub mod app;
pub mod ca;
pub mod certificates;
pub mod lifecycle;
pub mod observe;
pub mod pipeline;
pub mod probe;
pub mod refusal;
pub mod session;
