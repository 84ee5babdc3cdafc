//! Admission: pods of opted-in namespaces get a relay when they are created.
//!
//! [`inject`] is the whole of it, and pure. The webhook serves it; the policy that the API server can run by itself is
//! made from the same parts and held to it by tests.

mod cel;
pub mod certificate;
pub mod events;
mod hazards;
mod inject;
pub mod metrics;
pub mod names;
pub mod namespaces;
mod outcome;
mod parts;
pub mod policy;
pub mod review;
pub mod server;
mod settings;
mod variables;
pub mod webhooks;
mod wishes;

pub use self::{
    inject::inject,
    outcome::{Injection, LeftAlone, NotInjected, Refusal, sentences},
    settings::{Mode, NamespaceFacts, Ports, Settings, SettingsError},
};

#[cfg(test)]
mod tests;
