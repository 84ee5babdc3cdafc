//! How many instructions the gateway spends on each piece of a request, and the most that are
//! allowed: `bench/instructions`.
//!
//! Callgrind counts them, so that the figures are the same on a busy machine as on a quiet one. They
//! are of one compiler and one architecture, which that script looks at.
#![allow(missing_docs, reason = "the macros of gungraun make public items")]

mod pieces;

use std::hint::black_box;

use countersign_config::path::CanonicalPath;
use countersign_core::destination::Authority;
use gungraun::{Callgrind, EventKind, prelude::*};
use http::{request::Parts, uri::PathAndQuery};
use pieces::{Asked, Callers, Echo, Heads, Records};

/// Of each piece; what is counted, and what is limited, is all of them together.
const CALLS: usize = 100;

/// By how much a count may exceed what was measured, in percent, unless the script says otherwise:
/// hash tables with keys of their own in each run differ by less.
const TOLERANCE: u64 = 2;

/// A limit from the count that was measured last. A change that makes it more must say what for; one
/// that makes it less sets the new count.
fn measured(count: u64) -> LibraryBenchmarkConfig {
    let tolerance = std::env::var("BENCH_TOLERANCE").ok();
    let tolerance = tolerance.map_or(TOLERANCE, |percent| percent.parse().expect("a number"));
    let most = count + count * tolerance / 100;
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, most)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

/// Calls it so often, once what is made at first use is there.
fn ready<T>(piece: T, call: impl Fn(&T)) -> T {
    call(&piece);
    piece
}

#[library_benchmark(config = measured(225_722))]
#[bench::slack("slack.com:443")]
fn authority(text: &str) {
    for _ in 0..CALLS {
        black_box(Authority::with_port(black_box(text)).expect("it is canonical"));
    }
}

#[library_benchmark(config = measured(79_428))]
#[bench::qase(PathAndQuery::from_static("/v1/result/DEMO?run=1%2C2&limit=100"))]
fn path(path: PathAndQuery) -> PathAndQuery {
    for _ in 0..CALLS {
        black_box(CanonicalPath::check(black_box(&path)).expect("it is canonical"));
    }
    path
}

#[library_benchmark(config = measured(3_980_834))]
#[bench::known(ready(Callers::new(), Callers::known))]
fn identify(callers: Callers) -> Callers {
    for _ in 0..CALLS {
        callers.known();
    }
    callers
}

#[library_benchmark(config = measured(34_506))]
#[bench::later(ready(Callers::new(), Callers::confirm))]
fn confirm(callers: Callers) -> Callers {
    for _ in 0..CALLS {
        callers.confirm();
    }
    callers
}

#[library_benchmark]
#[bench::permitted(args = [Asked::permitted(3)], config = measured(283_617))]
#[bench::permitted_among_many(args = [Asked::permitted(1000)], config = measured(283_617))]
#[bench::refused(args = [Asked::refused(3)], config = measured(704_717))]
fn decide(asked: Asked) -> Asked {
    for _ in 0..CALLS {
        drop(black_box(asked.decide()));
    }
    asked
}

fn heads() -> (Heads, Vec<Parts>) {
    let heads = Heads::new();
    heads.inject(&mut heads.fresh());
    let fresh = (0..CALLS).map(|_| heads.fresh()).collect();
    (heads, fresh)
}

#[library_benchmark(config = measured(551_935))]
#[bench::slack(heads())]
fn inject((heads, mut fresh): (Heads, Vec<Parts>)) -> (Heads, Vec<Parts>) {
    for parts in &mut fresh {
        heads.inject(parts);
    }
    (heads, fresh)
}

#[library_benchmark(config = measured(276_297))]
#[bench::kilobyte(Echo::new(1024))]
fn echo(mut echo: Echo) -> Echo {
    for _ in 0..CALLS {
        echo.look();
    }
    echo
}

fn records() -> Records {
    let mut records = Records::new();
    for _ in 0..CALLS {
        records.record();
    }
    records.written();
    records
}

#[library_benchmark(config = measured(162_075))]
#[bench::permitted(records())]
fn record(mut records: Records) -> Records {
    for _ in 0..CALLS {
        records.record();
    }
    records
}

library_benchmark_group!(
    name = pieces_of_a_request,
    benchmarks = [
        authority, path, identify, confirm, decide, inject, echo, record
    ]
);
main!(library_benchmark_groups = pieces_of_a_request);
