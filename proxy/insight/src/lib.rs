//! Records read back: no sockets, no runtime; commands and pages show what this crate answers.

pub mod access;
pub mod audit;
pub mod brief;
pub mod credentials;
pub mod diff;
pub mod expect;
pub mod filter;
pub mod hindsight;
pub mod history;
pub mod reader;
pub mod receipt;
pub mod record;
pub mod replay;
pub mod request;
pub mod review;
pub mod smallest;
mod space;
pub mod story;
pub mod survey;
pub mod triage;
pub mod usage;
