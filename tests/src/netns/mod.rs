//! A small internet for one test, out of network namespaces: a pod, gateways, and everything else.
//!
//! ```text
//! pod ──── internet ──── gateways
//!          Slack, Qase, names, a stranger
//! ```
//!
//! The stand-ins are those of the [`Environment`](crate::environment::Environment), in this process: a socket stays
//! in the namespace in which it was made. The gateways and the relay are the real binary, each in
//! its namespace; so are the apps, unmodified and as another user.
//!
//! A namespace has no name, so that tests run side by side, and is held by a child whose standard
//! input is ours: however the test ends, the child sees it close, and the kernel takes the
//! namespace away with its links, addresses and rules.

mod internet;
mod names;
mod namespace;
mod network;
mod pod;
mod test_bed;

pub use internet::{CLEAR, Internet, STRANGER, STRANGER_6};
pub use namespace::{Namespace, Owner};
pub use network::{GATEWAYS, Link, Network, POD};
pub use pod::{APP, Pod, RELAY, Shown, run};
pub use test_bed::{GATEWAY_PORT, GatewayProcess, Options, TRUST_DOMAIN, TestBed};

/// What a test calls.
const TOOLS: [&str; 12] = [
    "curl",
    "git",
    "ip",
    "ip6tables",
    "iptables",
    "mount",
    "nc",
    "nft",
    "nsenter",
    "setpriv",
    "sh",
    "unshare",
];

/// Whether namespaces can be made here; says so if they cannot.
///
/// # Panics
/// When root lacks a tool: it has only to be installed, which `tests/run` does.
pub fn available() -> bool {
    if !rustix::process::geteuid().is_root() {
        crate::skipped("needs root: network namespaces cannot be made");
        return false;
    }
    for tool in TOOLS {
        let found = std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|directory| directory.join(tool).is_file())
        });
        assert!(found, "{tool} is not installed; run tests/run");
    }
    true
}
