//! Values that all parts of Countersign use: hosts, names of resources and fields, bounds and sizes, the
//! display of foreign text, and the forms of credentials.
//!
//! This crate reads no resource and decides nothing. Crates that need only these values, `core` and the
//! relay, link neither the policy nor its expressions.

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
