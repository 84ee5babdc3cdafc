//! The promises, each tested over real sockets against a real gateway.

mod agreement;
mod bad_identity;
mod bad_upstream;
mod bodies;
mod canary;
mod cluster_object;
mod conditions;
mod curl;
mod drain;
mod examples;
mod exec;
mod framing;
mod helm;
mod job;
mod mtls;
mod node_sdks;
mod protocols;
mod python_sdks;
mod refusals;
mod relay;
mod reload;
mod rust_sdk;
mod site;
mod support;
mod threats;
mod transparent;
