use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, Sender, channel},
};

use countersign_config::model::{DecisionSink, RecordFormat};
use serde_json::Value;

use super::*;
use crate::observe::log::outputs::Outputs;

/// Fails so many times, then gives on what it gets.
struct Flaky {
    failures: usize,
    got: Sender<Vec<u8>>,
}

impl Write for Flaky {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        drop(self.got.send(bytes.to_vec()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Bench {
    sink: Arc<Sink>,
    gate: Arc<Gate>,
    counts: Counts,
    destination: Destination,
    got: Receiver<Vec<u8>>,
}

fn bench(when_full: WhenFull, failures: usize) -> Bench {
    let gate = Arc::new(Gate::default());
    let described = DecisionSink {
        when_full,
        ..DecisionSink::stdout()
    };
    let (sender, got) = channel();
    let writer = Flaky {
        failures,
        got: sender,
    };
    let outputs = Outputs::stream(Box::new(writer));
    Bench {
        sink: Sink::new(&described, 4, &gate),
        gate,
        counts: Counts::default(),
        destination: Destination::lines(outputs, RecordFormat::Json, None, "main"),
        got,
    }
}

/// A record of so many bytes.
fn lines(number: usize, bytes: usize) -> Arc<Lines> {
    let text = format!("{{\"n\":{number},\"x\":\"{}\"}}\n", "x".repeat(bytes));
    Arc::new(Lines {
        class: Class::Identified,
        bytes: text.into(),
        records: 1,
    })
}

impl Bench {
    /// Fills it beyond its bound; returns how many were put.
    fn fill(&self) -> usize {
        const LINE: usize = 64 * 1024;
        let count = WAITING_BYTES / 4 / LINE + 5;
        for number in 0..count {
            self.sink.put(&lines(number, LINE), &self.counts);
        }
        count
    }

    /// Writes everything, and returns the lines.
    fn drain(self) -> Vec<Value> {
        self.sink.close();
        self.sink.run(self.destination, &self.counts);
        let written: Vec<u8> = self.got.try_iter().flatten().collect();
        let lines = written.split(|byte| *byte == b'\n');
        lines
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }
}

#[test]
fn a_sink_that_may_lose_records_loses_what_does_not_fit_and_tells() {
    let bench = bench(WhenFull::Drop, 0);
    let put = bench.fill() as u64;
    let status = bench.sink.status();
    assert!(status.dropped > 0 && status.state == "ok", "{status:?}");
    assert!(bench.gate.is_open());
    let dropped = status.dropped;
    let written = bench.drain();
    assert_eq!(written[0]["schema"], "countersign.dropped/v1");
    assert_eq!(written[0]["count"], dropped);
    assert_eq!(written.len() as u64 - 1 + dropped, put);
}

#[test]
fn a_sink_that_must_not_lose_records_takes_all_and_closes_the_gate_until_half_is_written() {
    let bench = bench(WhenFull::Refuse, 3);
    let put = bench.fill();
    assert_eq!(bench.sink.status().state, "full");
    assert!(!bench.gate.is_open());
    let (sink, gate) = (Arc::clone(&bench.sink), Arc::clone(&bench.gate));
    let writing = thread::spawn({
        let (sink, counts) = (Arc::clone(&bench.sink), bench.counts.clone());
        move || sink.run(bench.destination, &counts)
    });
    // Its failures are over after three attempts.
    let first: Vec<_> = (0..put).map(|_| bench.got.recv().unwrap()).collect();
    for (number, line) in first.iter().enumerate() {
        let line: Value = serde_json::from_slice(line).unwrap();
        assert_eq!(line["n"], number, "in order, and each once");
    }
    sink.close();
    writing.join().unwrap();
    assert!(gate.is_open());
    let status = sink.status();
    assert_eq!((status.dropped, status.state), (0, "ok"));
}

#[test]
fn what_cannot_be_written_at_the_end_is_counted() {
    for when_full in [WhenFull::Drop, WhenFull::Wait] {
        let bench = bench(when_full, usize::MAX);
        bench.sink.put(&lines(0, 10), &bench.counts);
        let sink = Arc::clone(&bench.sink);
        assert_eq!(bench.drain(), [Value::Null; 0]);
        let status = sink.status();
        assert_eq!((status.dropped, status.state), (1, "failing"));
        assert!(status.error.is_some());
    }
}
