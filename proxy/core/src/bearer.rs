//! A caller with a credential value of its own.

use std::{fmt, future::Future, pin::Pin};

use jiff::Timestamp;

use crate::{clock::Clock, secret::Secret};

/// An identified caller as the credential crate sees it, if each caller has a value of its own: the
/// proof that is exchanged, and when the exchanged value must end.
pub trait Bearer: fmt::Debug + Send + Sync + 'static {
    /// The SHA-256 of the proof, which distinguishes callers.
    fn key(&self) -> &[u8; 32];

    /// The token to exchange; `None` if a certificate alone proved the caller.
    fn token(&self) -> Option<&Secret>;

    /// The caller's name, with its pod if known.
    fn described(&self) -> String;

    /// When the proof expires.
    fn expires_at(&self) -> Timestamp;

    /// Completes when the proof is no longer valid.
    fn over<'a>(&'a self, clock: &'a Clock) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}
