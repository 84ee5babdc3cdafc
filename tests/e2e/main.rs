//! The promises, each tested over real sockets against a real gateway. A room for each kind of promise;
//! a test named `tNN_...` is the attack of that number in the project's list of threats.

mod credentials;
mod harness;
mod identity;
mod kubernetes;
mod limits;
mod operations;
mod pages;
mod policy;
mod protocols;
mod redirect;
mod sdks;
mod structure;
