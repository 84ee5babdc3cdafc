//! What the source itself is held to.

mod crates;
mod dependencies;
mod modules;
mod sentences;
