use countersign_config::model::{Collector, OtlpProtocol};

use super::*;
use crate::observe::{Outcome, fixture, log::line_of};

fn nowhere(protocol: OtlpProtocol) -> Traces {
    Traces {
        collector: Collector {
            endpoint: "http://127.0.0.1:1".to_owned(),
            ca_file: None,
        },
        protocol,
        ratio: 1.0,
        refusals: true,
    }
}

/// A tracer whose thread is not there.
fn tracer() -> Tracer {
    Tracer {
        sampler: Sampler::new(&nowhere(OtlpProtocol::Grpc)),
        queue: Arc::default(),
        thread: None,
    }
}

/// A permitted request, its line, and how many spans it is.
fn closed() -> (Box<Closed>, Vec<u8>, u64) {
    let (recorder, _log) = fixture::recorder();
    let mut record = recorder.open();
    fixture::fill(&mut record);
    let closed = record.take_closed(Outcome::Permitted);
    let line = line_of(&closed);
    let spans = Finished::new(&closed, &line).spans();
    (closed, line, spans)
}

fn lost(metrics: &Metrics, reason: &str) -> u64 {
    let text = metrics.encode().unwrap();
    let name = format!("countersign_spans_dropped_total{{reason=\"{reason}\"}} ");
    let count = text.lines().find_map(|line| line.strip_prefix(&name));
    count.unwrap().parse().unwrap()
}

#[test]
fn what_does_not_fit_is_lost_and_counted() {
    let (tracer, metrics) = (tracer(), Metrics::new());
    let (closed, _, spans) = closed();
    let line = vec![b' '; 100 * 1024];
    for _ in 0..20 {
        tracer.add(&closed, &line, Some(&metrics));
    }
    let (waiting, bytes) = {
        let queue = tracer.queue.lock();
        (queue.waiting.len() as u64, queue.bytes)
    };
    assert!(bytes <= WAITING_BYTES && waiting > 5, "{waiting}: {bytes}");
    assert_eq!(lost(&metrics, "queue_full"), (20 - waiting) * spans);
    let (batch, _) = tracer.queue.next();
    assert_eq!(batch.len() as u64, waiting);
    assert_eq!(tracer.queue.lock().bytes, 0);
}

#[test]
fn at_the_end_a_collector_that_is_away_is_asked_once() {
    for protocol in [OtlpProtocol::Grpc, OtlpProtocol::Http] {
        let (tracer, metrics) = (tracer(), Metrics::new());
        let (closed, line, spans) = closed();
        for _ in 0..3 * BATCH {
            tracer.add(&closed, &line, Some(&metrics));
        }
        let handed_over = tracer.queue.lock().waiting.len() as u64;
        tracer.queue.lock().closing = true;
        let exporter = Exporter::new(&nowhere(protocol), "main").unwrap();
        tracer.queue.send(exporter);
        assert_eq!(lost(&metrics, "collector"), handed_over * spans);
        assert!(
            metrics
                .encode()
                .unwrap()
                .contains("countersign_spans_sent_total 0")
        );
    }
}
