//! What policy says is what happens: for each request, for what stays open, and whatever way around a
//! host's name is tried.

mod agreement;
mod conditions;
mod destinations;
mod examples;
mod governed_hosts;
mod not_intercepted;
mod rates;
pub(crate) mod reauthorization;
mod reload;
mod rewritten_requests;
