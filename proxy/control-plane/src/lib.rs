//! HTTP towards the operator's own servers: the cluster's API server, Vault. Bounded in time and
//! size, and never through a proxy or a redirect, which could carry a token elsewhere.
//!
//! It is a crate of its own so that the relay, which calls none of them, does not link their client.

mod client;
pub mod kube;
mod own_token;
mod transport;

pub use client::{Client, RootsError, TIMEOUT, client};
pub use own_token::{OwnTokenError, own_token};
pub use transport::{TransportError, body, classify, quoted, sentence, url};
