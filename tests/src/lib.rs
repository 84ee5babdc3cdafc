//! Stand-ins for what the proxy talks to, and an environment that wires them up.
//!
//! The proxy's promise is that a client without a secret reaches an API that demands one. So the
//! APIs here are strict: over real TLS, with their own authority, they accept what the real ones
//! accept and nothing else, and they remember every request, so that a test can prove that the
//! credential was put on and that no dummy arrived.
//!
//! [`fake`] has Slack, Qase, a token issuer and a Kubernetes API server; [`client`] a small HTTP
//! client that hides nothing; [`environment`] starts everything that one gateway needs.

use std::io::Write as _;

pub mod client;
pub mod environment;
pub mod fake;
pub mod gateway;
pub mod kube_apiserver;
pub mod kubelet;
pub mod linear;
pub mod listener_files;
pub mod month;
pub mod netns;
pub mod openbao;
pub mod process;
pub mod provoked;
mod random;
pub mod redis;
pub mod resources;
pub mod sentences;
pub mod structural;

/// The definitions of the four kinds.
pub fn definitions() -> Vec<serde_json::Value> {
    countersign_controller::crd::all()
}

/// Says what a test measured, past the capture of test output.
pub fn told(figures: &str) {
    let line = format!("\nMEASURED: {figures}\n");
    // Without a standard error there is nobody to tell.
    let _nobody = std::io::stderr().write_all(line.as_bytes());
}

/// Says loudly that a test cannot run here, and why: past the capture of test output, so that
/// `tests/run` sees and counts it.
pub fn skipped(why: &str) {
    let line = format!("\nSKIPPED: {why}\n");
    // Without a standard error there is nobody to tell.
    let _nobody = std::io::stderr().write_all(line.as_bytes());
}

/// Shows what a test measured: past the capture of test output, so that it is seen in every run.
pub fn shown(figures: &str) {
    let lines = format!("\n{figures}\n");
    // Without a standard output there is nobody to show it to.
    let _nobody = std::io::stdout().write_all(lines.as_bytes());
}
