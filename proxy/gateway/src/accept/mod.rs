//! Letting connections in: listeners, CONNECT and absolute-form requests, redirected connections,
//! interception, and the bounds and ends of connections.

mod acceptor;
mod clear;
mod context;
mod explicit;
mod farewell;
mod intercept;
mod listener;
mod metered;
mod own_identity;
mod refused_tunnel;
mod serve;
mod tls;
mod transparent;
mod tunnel;
mod tunnel_tls;
mod unmatched;

pub use acceptor::Acceptor;
pub use context::AcceptContext;
pub use listener::{Bound, ListenError};
pub use tls::{ListenerCertificate, TlsError, check as check_files};
