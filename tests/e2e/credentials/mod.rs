//! Credentials: where they come from, how they are kept and end, and that each goes nowhere but where
//! policy says.

mod crash;
mod destinations;
mod echoed;
mod issued;
mod other_hosts;
mod probes;
mod recovery;
mod rights;
mod rotation;
mod shared;
mod sources;
mod state;
mod vault;
