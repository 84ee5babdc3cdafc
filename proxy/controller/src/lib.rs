//! What Countersign does with the Kubernetes API: resources and their status, what a pod is, admission and trust.

pub mod admission;
mod client;
pub mod crd;
pub mod gateways;
pub mod pods;

pub use client::connect;
