//! What a peer can make the gateway compute before it is proven, at its worst, by the clock:
//! `cargo bench -p countersign-bench --bench proof`. `docs/proofs.md` has the bounds.

#[path = "proof/chains.rs"]
mod chains;
#[path = "proof/first_bytes.rs"]
mod first_bytes;
#[path = "proof/frames.rs"]
mod frames;
#[path = "proof/handshake.rs"]
mod handshake;
#[path = "proof/tokens.rs"]
mod tokens;
#[path = "proof/visits.rs"]
mod visits;

use std::{hint::black_box, time::Duration};

use tokio::time::Instant;

/// How long each is tried.
const TRIED: Duration = Duration::from_millis(600);

fn main() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    handshake::measure();
    tokens::measure();
    first_bytes::measure();
    visits::measure();
}

/// Prints the median of what one run takes; `prepare` does not count.
fn report<T>(what: &str, mut prepare: impl FnMut() -> T, mut run: impl FnMut(T)) {
    let begin = Instant::now();
    let mut taken = Vec::new();
    while taken.len() < 5 || begin.elapsed() < TRIED && taken.len() < 100_000 {
        let input = black_box(prepare());
        let start = Instant::now();
        run(input);
        taken.push(start.elapsed());
    }
    taken.sort();
    print(what, taken[taken.len() / 2]);
}

#[expect(clippy::print_stdout, reason = "it is what this program is for")]
fn print(what: &str, median: Duration) {
    println!("{what:<50} {:>10} ns", median.as_nanos());
}
