//! The promises, each tested over real sockets against a real gateway.

mod agreement;
mod examples;
mod exec;
