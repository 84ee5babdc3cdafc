//! Strict stand-ins for the services around the proxy.

mod api_server;
mod authority;
mod body;
mod certificates;
mod crowd;
mod github;
mod issuer;
mod limits;
mod memory;
mod misbehave;
mod multipart;
mod oauth;
mod qase;
mod server;
mod signer;
mod slack;
mod spire;
mod wire;
mod workload_api;

pub use api_server::{ApiServer, Grant};
pub use authority::Authority;
pub use body::{Body, file, json, text};
pub use crowd::Crowd;
pub use github::{GITHUB_HOST, GitHub};
pub use issuer::{Issuer, KeyKind, TokenRequest};
pub use limits::Limited;
pub use memory::{Memory, Received};
pub use misbehave::Misbehaviour;
pub use multipart::Part;
pub use oauth::{ACCESS_TOKEN_LIFE, AccessToken, OAUTH_HOST, Oauth, OauthClient, Proves};
pub use qase::Qase;
pub use server::{Api, Connection, Exchange, Protocol, Server};
pub use signer::{Signer, SignerKind};
pub use slack::{Hold, Moment, RotatingApp, Slack};
pub use spire::{Pair, TrustDomain};
pub use workload_api::WorkloadApi;
