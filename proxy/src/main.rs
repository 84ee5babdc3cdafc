//! The `countersign` binary: flags, load, run.

fn main() {}
