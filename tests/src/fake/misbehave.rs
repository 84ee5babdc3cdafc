//! The ways in which an upstream can be broken.

use super::Crowd;

/// What a stand-in does instead of its work, until it is told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Resets every new connection before TLS.
    ResetOnAccept,
    /// Reads the request, then resets the connection.
    ResetAfterRequest,
    /// Sends a head and half a body, then resets the connection.
    ResetInBody,
    /// Accepts the TCP connection and says nothing.
    StallBeforeTls,
    /// Reads the request and never answers.
    Stall,
    /// Reads the head of the request, nothing of its body, and never answers.
    StallBeforeBody,
    /// Sends a head and half a body, then nothing more.
    StallInBody,
    /// Speaks plain text where TLS belongs.
    NoTls,
    /// Speaks something that is not HTTP inside TLS.
    Garbage,
    /// Shows a certificate for another name, from the right authority.
    WrongName,
    /// Shows a certificate for the right name, from an authority that nobody trusts.
    UntrustedAuthority,
    /// Shows a certificate that ran out.
    ExpiredCertificate,
    /// Shows the right certificate among others that have nothing to do with it.
    Crowded(Crowd),
    /// Answers with the request's own head, secrets and all, in headers and body.
    Echo,
}
