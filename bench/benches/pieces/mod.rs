//! The pieces of a request that are measured, ready to be called: by the clock in `micro`, by the
//! instruction in `instructions`.
//!
//! Each has a constructor that does all that is not measured, and methods that do one piece once.
#![allow(
    dead_code,
    unused_imports,
    reason = "each of the two benchmarks uses a part of them"
)]

mod bodies;
mod callers;
mod heads;
mod leaves;
mod policies;
mod records;

pub(crate) use bodies::Echo;
pub(crate) use callers::Callers;
pub(crate) use heads::Heads;
pub(crate) use leaves::Leaves;
pub(crate) use policies::{Asked, dashboard};
pub(crate) use records::Records;
