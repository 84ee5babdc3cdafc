//! Certificate authorities: how a root is made and checked, and what it signs. The gateway issues with one of its own,
//! the controller for all gateways.
//!
//! No sockets, no files, no clock. Keys are P-256, and their serialised forms are overwritten when they are dropped.

mod fingerprint;
mod issue;
mod key;
mod names;
mod parse;
mod pem;
mod request;
mod root;
mod validity;

pub use self::{
    fingerprint::fingerprint,
    issue::Template,
    key::CaKey,
    names::{Names, Subtree, has_names},
    parse::ParsedRoot,
    pem::pem,
    request::{Request, RequestError},
    root::NewRoot,
    validity::{Validity, after},
};

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A certificate could not be made.
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// The system's random numbers failed.
    #[error("no random numbers are to be had")]
    Random,
}
