//! What the gateway computes for every request, each piece on its own, by the clock:
//! `cargo bench -p countersign-bench --bench micro`.
#![allow(missing_docs, reason = "the macros of criterion make public items")]

mod pieces;

use std::{hint::black_box, time::Duration};

use countersign_config::path::CanonicalPath;
use countersign_core::destination::Authority;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::uri::PathAndQuery;
use pieces::{Asked, Callers, Echo, Heads, Leaves, Records};
use tokio::time::Instant;

criterion_group!(
    benches,
    canonicalise,
    identify,
    decide,
    inject,
    echo,
    record,
    mint
);
criterion_main!(benches);

fn canonicalise(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("canonicalise");
    for (name, text) in [
        ("authority", "slack.com:443"),
        ("authority, to be folded", "API.Qase.IO.:443"),
        ("authority, IPv6", "[2001:db8::7]:443"),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| Authority::with_port(black_box(text)).expect("it is canonical"));
        });
    }
    let path = PathAndQuery::from_static("/v1/result/DEMO?run=1%2C2&limit=100");
    group.bench_function("path", |bencher| {
        bencher.iter(|| CanonicalPath::check(black_box(&path)).expect("it is canonical"));
    });
    group.finish();
}

/// A token that was checked before, the question whether a proof still stands, and a token that
/// nobody has seen.
fn identify(criterion: &mut Criterion) {
    let callers = Callers::new();
    let mut group = criterion.benchmark_group("identify");
    group.bench_function("known token", |bencher| bencher.iter(|| callers.known()));
    group.bench_function("confirm", |bencher| bencher.iter(|| callers.confirm()));
    group.bench_function("first sight, RS256", |bencher| {
        bencher.iter_batched(
            || callers.mint(),
            |token| callers.first_sight(&token),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// The decision among few policies and among many: it must not depend on how many there are.
fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for others in [3, 1000] {
        let (permitted, refused) = (Asked::permitted(others), Asked::refused(others));
        let among = permitted.policies();
        group.bench_function(format!("permitted, among {among} policies"), |bencher| {
            bencher.iter(|| drop(black_box(permitted.decide())));
        });
        group.bench_function(format!("refused, among {among} policies"), |bencher| {
            bencher.iter(|| drop(black_box(refused.decide())));
        });
        group.bench_function(format!("recognise, among {among} policies"), |bencher| {
            bencher.iter(|| permitted.recognise());
        });
    }
    group.finish();
}

fn inject(criterion: &mut Criterion) {
    let heads = Heads::new();
    criterion.bench_function("inject/head", |bencher| {
        bencher.iter_batched_ref(
            || heads.fresh(),
            |parts| heads.inject(parts),
            BatchSize::SmallInput,
        );
    });
}

/// Looking for the credential in a body, by the piece.
fn echo(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("echo");
    for bytes in [64, 1024, 16 * 1024] {
        let mut echo = Echo::new(bytes);
        group.bench_function(format!("{bytes} bytes"), |bencher| {
            bencher.iter(|| echo.look());
        });
    }
    group.finish();
}

/// A record, as the request path pays for it; and the same with the thread that writes it.
fn record(criterion: &mut Criterion) {
    let mut records = Records::new();
    let mut group = criterion.benchmark_group("record");
    for (name, with_writer) in [("request path", false), ("request path and writer", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let mut elapsed = Duration::ZERO;
                let mut left = count;
                while left > 0 {
                    let batch = left.min(Records::BATCH);
                    let start = Instant::now();
                    for _ in 0..batch {
                        records.record();
                    }
                    let path = start.elapsed();
                    records.written();
                    elapsed += if with_writer { start.elapsed() } else { path };
                    left -= batch;
                }
                elapsed
            });
        });
    }
    group.finish();
}

fn mint(criterion: &mut Criterion) {
    let mut leaves = Leaves::new();
    criterion.bench_function("mint/leaf", |bencher| bencher.iter(|| leaves.mint()));
}
