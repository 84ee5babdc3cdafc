//! One module for each kind of page: what it asks `countersign-insight`, and its view.

pub(crate) mod credentials;
pub(crate) mod failures;
pub(crate) mod overview;
pub(crate) mod requests;
pub(crate) mod review;
pub(crate) mod revisions;
pub(crate) mod workloads;
