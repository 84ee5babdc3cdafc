//! Strict stand-ins for the services around the proxy.

mod api_server;
mod authority;
mod body;
mod certificates;
mod issuer;
mod limits;
mod memory;
mod misbehave;
mod multipart;
mod qase;
mod server;
mod slack;
mod spire;
mod wire;
mod workload_api;

pub use api_server::{ApiServer, Grant};
pub use authority::Authority;
pub use body::{Body, file, json, text};
pub use issuer::{Issuer, KeyKind, TokenRequest};
pub use limits::Limited;
pub use memory::{Memory, Received};
pub use misbehave::Misbehaviour;
pub use multipart::Part;
pub use qase::Qase;
pub use server::{Api, Connection, Exchange, Protocol, Server};
pub use slack::{Hold, Moment, RotatingApp, Slack};
pub use spire::{Pair, TrustDomain};
pub use workload_api::WorkloadApi;
