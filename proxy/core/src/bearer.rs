//! Who may have a value of its own.

use std::{fmt, future::Future, pin::Pin};

use jiff::Timestamp;

use crate::{clock::Clock, secret::Secret};

/// A proven caller as the credentials see it, where each caller has a value of its own: the proof
/// that is exchanged, and when what came of it must end.
pub trait Bearer: fmt::Debug + Send + Sync + 'static {
    /// The SHA-256 of the proof, by which callers are told apart.
    fn key(&self) -> &[u8; 32];

    /// The token to exchange; `None` if a certificate alone proved the caller.
    fn token(&self) -> Option<&Secret>;

    /// Who it is, with the pod where that is known.
    fn described(&self) -> String;

    /// The end of the proof.
    fn expires_at(&self) -> Timestamp;

    /// Completes when the run that the token was given to is over.
    fn over<'a>(&'a self, clock: &'a Clock) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}
