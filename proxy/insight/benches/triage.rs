//! The rate of triage, its memory, and what sealing a log costs the log's thread. It prints and asserts nothing.
//!
//! ```text
//! cargo bench -p countersign-insight --bench triage            1 GB of a synthetic month
//! cargo bench -p countersign-insight --bench triage -- 100     100 MB
//! ```

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and may stop"
)]

#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "shared with the tests"
)]
#[path = "../../../tests/src/month/mod.rs"]
mod month;

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    time::Instant,
};

use countersign_insight::{
    reader::Reader,
    triage::{self, Options},
};

use self::month::{GATEWAYS, Month};

/// The peak of the process's memory, in MB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() / 1000
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed<T>(what: &str, bytes: u64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    let seconds = start.elapsed().as_secs_f64();
    #[allow(
        clippy::cast_precision_loss,
        reason = "it is printed with three digits"
    )]
    let megabytes = bytes as f64 / 1e6;
    println!(
        "{what}: {megabytes:.0} MB in {seconds:.2} s, {:.0} MB/s, peak {} MB",
        megabytes / seconds,
        peak()
    );
    done
}

fn main() {
    let wanted = std::env::args().find_map(|argument| argument.parse::<u64>().ok());
    let wanted = wanted.unwrap_or(1000) * 1_000_000;
    let folder = tempfile::tempdir().expect("there is room for a file");
    let mut bytes = 0;
    {
        let logs: Vec<_> = {
            let month = Month::new(7);
            (0..GATEWAYS.len())
                .map(|gateway| month.log(gateway))
                .collect()
        };
        let each = wanted / logs.len() as u64;
        for (log, name) in logs.iter().zip(GATEWAYS) {
            let file = File::create(folder.path().join(name)).expect("the file can be made");
            let mut file = BufWriter::new(file);
            let mut written = 0;
            while written < each {
                file.write_all(log.as_bytes()).expect("there is room");
                written += log.len() as u64;
            }
            bytes += written;
        }
    }
    println!("the peak of {} MB so far is that of making the log", peak());
    let open = || Reader::open(&[folder.path().to_owned()]).expect("the files are there");
    timed("reading alone", bytes, || open().each(|_| {}));
    let report = timed("triage", bytes, || {
        triage::triage(&mut open(), Options::default())
    });
    println!(
        "{} requests, {} findings",
        report.requests,
        report.findings.len()
    );

    let log = Month::new(7).log(0);
    let mut chain = countersign_audit::Chain::new("0194f3c1-2a44-7000-8000-0000000000aa", None);
    let mut out = Vec::new();
    let lines = log.lines().count();
    timed(&format!("sealing {lines} lines"), log.len() as u64, || {
        for line in log.lines() {
            out.clear();
            chain
                .seal(line.as_bytes(), &mut out)
                .expect("a record is sealed");
        }
    });
}
