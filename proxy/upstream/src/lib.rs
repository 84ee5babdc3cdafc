//! Everything that leaves: the request made the gateway's own ([`inject`]), sent over verified TLS
//! ([`forward`]), and what its answer says of the credential ([`detect`]).

pub mod detect;
pub mod forward;
pub mod inject;
