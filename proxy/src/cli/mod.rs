//! What people type: one file a command.

pub mod ca;
pub mod environment;
mod files;
