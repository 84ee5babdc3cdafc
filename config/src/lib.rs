//! The operator's resources in usable form.
//!
//! This crate is pure: no sockets, no async, no clock of its own. It reads YAML ([`resource`]), converts
//! it to values that cannot be invalid ([`model`]) or reports every mistake at once with its place and
//! remedy, and answers the one question of the request path: may this caller make this request now
//! ([`policy`]).

pub use countersign_types::{fields, host, memory, shown};

pub mod cluster;
pub mod condition;
mod facts;
pub mod governance;
pub mod history;
pub mod load;
pub mod model;
mod pace;
pub mod path;
pub mod policy;
pub mod problem;
pub mod resource;
pub mod schedule;
pub mod schema;
pub mod setting;
pub mod spiffe;
mod validate;
mod yaml;

pub use yaml::closest;
