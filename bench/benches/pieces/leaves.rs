//! Certificates for names never seen.

use std::hint::black_box;

use countersign_config::host::{Host, HostPattern};
use countersign_core::clock::Clock;
use countersign_gateway::ca::Ca;
use tempfile::TempDir;

/// A CA that may issue for `*.bench.test`.
pub(crate) struct Leaves {
    ca: Ca,
    made: usize,
    _directory: TempDir,
}

impl Leaves {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let ca = directory.path().join("ca");
        let ca = Ca::open_or_create(&ca, Clock::system(), 4096).expect("a CA");
        let pattern = HostPattern::parse("*.bench.test").expect("a pattern");
        ca.constrain([&pattern].into_iter())
            .expect("an intermediate");
        Self {
            ca,
            made: 0,
            _directory: directory,
        }
    }

    /// A key's certificate for another name, with the TLS configuration that shows it.
    pub(crate) fn mint(&mut self) {
        self.made += 1;
        let host = Host::parse(&format!("n{}.bench.test", self.made)).expect("a host");
        black_box(self.ca.leaf(&host).expect("it is intercepted"));
    }
}
