//! Letting connections in: listeners, CONNECT and absolute-form requests, steered connections,
//! interception, and the bounds and ends of connections.

mod activity;
mod clear;
mod explicit;
mod farewell;
pub(crate) mod first_bytes;
mod frames;
mod framing;
mod half_closed;
mod intercept;
mod lease;
mod listener;
mod meter;
mod metered;
mod original_destination;
mod overrides;
mod plain;
pub mod pump;
mod received;
pub(crate) mod rewound;
mod serve;
mod session;
pub(crate) mod sniff;
mod stream;
mod tls;
mod transparent;
mod tunnel;

pub use activity::{Activity, Busy, Violation};
pub use lease::Lease;
pub use listener::{Bound, ListenError, OwnIdentity};
pub use meter::Overrun;
pub(crate) use meter::in_progress;
pub(crate) use overrides::is_method_field;
pub use received::Received;
pub use serve::Protocol;
pub use session::{Entrance, Session, Tunnel};
pub use stream::ClientStream;
pub use tls::{ListenerCertificate, TlsError};
