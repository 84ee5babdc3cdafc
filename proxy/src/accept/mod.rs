//! Letting connections in: listeners, CONNECT and absolute-form requests, interception, and the
//! bounds and ends of connections.

mod activity;
mod explicit;
mod intercept;
mod listener;
mod plain;
pub mod pump;
mod received;
mod serve;
mod session;
mod tls;

pub use activity::{Activity, Busy, HeadDeadline};
pub use listener::{Bound, ListenError, OwnIdentity};
pub use received::Received;
pub use serve::Protocol;
pub use session::{Entrance, Session, Slot, Tunnel};
pub use tls::{ListenerCertificate, TlsError};
