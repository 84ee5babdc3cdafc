//! Letting connections in: listeners, CONNECT and absolute-form requests, steered connections,
//! interception, and the bounds and ends of connections.

mod clear;
mod explicit;
mod farewell;
mod intercept;
mod lease;
mod listener;
mod metered;
mod plain;
pub mod pump;
mod received;
mod serve;
mod session;
mod tls;
mod transparent;
mod tunnel;

pub use lease::Lease;
pub use listener::{Bound, ListenError, OwnIdentity};
pub use received::Received;
pub use session::{Entrance, Session, Tunnel};
pub use tls::{ListenerCertificate, TlsError};
