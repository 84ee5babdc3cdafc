//! What Countersign does with the Kubernetes API: resources and their status, what a pod is, admission and trust.

pub mod admission;
mod backoff;
mod client;
pub mod crd;
pub mod doctor;
pub mod gateways;
pub mod lease;
pub mod pods;
pub mod ranges;
pub mod resources;
mod rights;
pub mod status;
mod trouble;
pub mod trust;
pub mod uninjected;

pub use client::connect;
