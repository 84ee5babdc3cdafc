//! May this caller make this request now, and what may be done with a connection.
//!
//! A [`Received`] is a head that is fit to be decided about, a [`Permit`] the proof that policy permits
//! the request, and a [`Passage`] the proof that a host belongs to no target and may be reached
//! without a credential. Nothing else makes them, and what leaves the gateway is made of them. Nothing
//! in here opens a socket.

mod access;
mod connection;
mod denied;
mod open;
mod permit;
mod rates;
mod reason;
mod received;
mod shown;
mod snapshot;

pub use access::AccessControl;
pub use connection::{Disposition, Passage, connection, in_clear, originated, told_inside};
pub use denied::Denied;
pub use open::OpenConnection;
pub use permit::{Permit, authorize, tunnel};
pub use rates::Rates;
pub use reason::reason;
pub use received::Received;
pub use shown::{InnerTarget, ShownBy, ShownName, Verdict};
pub use snapshot::{Recognition, Snapshot, Snapshots};
