//! Everything that leaves: the request is rewritten ([`inject`]), sent over verified TLS ([`forward`]), and
//! its response is checked for a failed credential ([`detect`]).

pub mod detect;
pub mod forward;
pub mod inject;
