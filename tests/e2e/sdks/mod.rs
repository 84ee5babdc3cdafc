//! Clients as they are published reach Slack and Qase without a secret.

mod curl;
mod exec;
mod node;
mod photo;
mod python;
mod refused;
mod rust;
