//! HTTP clients for the operator's own servers: the cluster's API server, Vault. Bounded in time and
//! size, and without proxy and redirects, which could send a token elsewhere.
//!
//! It is a separate crate so that the relay, which calls none of these servers, does not link the
//! client.

mod client;
pub mod kube;
mod own_token;
mod roots_error;
mod transport;

pub use client::{Client, TIMEOUT, client};
pub use own_token::{OwnTokenError, describe_own_token, own_token};
pub use roots_error::RootsError;
pub use transport::{TransportError, body, classify, quoted, sentence, url};
