//! Values that every part of Countersign speaks of: hosts, names of resources and fields, bounds and
//! sizes, how a text of others is shown, and how credentials look.
//!
//! It reads no resource and decides nothing. What needs these values alone, `core` and the relay,
//! links neither the policy nor its expressions.

pub mod fields;
pub mod host;
mod limits;
pub mod memory;
mod resource_name;
pub mod secret_forms;
pub mod shown;
mod transparency;
mod unidentified;

pub use limits::Limits;
pub use resource_name::ResourceName;
pub use transparency::Transparency;
pub use unidentified::Unidentified;
