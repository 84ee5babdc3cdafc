use std::{fs, path::Path};

use serde_json::Value;

use super::*;
use crate::observe::{Outcome, Recorder, fixture};

const SOON: Duration = Duration::from_secs(10);

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn recorder(log: &DecisionLog) -> Recorder {
    Recorder::new(log.clone(), Metrics::new(), fixture::clock())
}

fn metric(recorder: &Recorder, line: &str) -> bool {
    let text = recorder.metrics().encode().unwrap();
    text.lines().any(|there| there == line)
}

/// A log whose writer is not running yet, so that its queue fills up.
fn stalled(path: &Path, length: usize) -> (DecisionLog, impl FnOnce() + Send + 'static) {
    let (log, messages) = DecisionLog::queue(length);
    let output = Output::File(RotatingFile::open(path).unwrap());
    let writer = Writer::new(output, log.0.counts.clone());
    (log, move || writer.run(&messages))
}

#[tokio::test]
async fn what_was_closed_before_shutdown_is_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("decisions.jsonl");
    let log = DecisionLog::start(&DecisionSink::File(path.clone())).unwrap();
    let recorder = recorder(&log);
    for _ in 0..1000 {
        recorder.open().close(Outcome::Permitted);
    }
    log.shutdown(SOON).await.unwrap();
    let lines = lines(&path);
    assert_eq!(lines.len(), 1000);
    assert!(
        lines
            .iter()
            .all(|line| line["schema"] == "countersign.decision/v1")
    );
    let counted = r#"countersign_requests_total{outcome="permitted",reason="permitted",target="",policy=""} 1000"#;
    assert!(metric(&recorder, counted));
}

#[tokio::test]
async fn a_full_queue_loses_records_loudly_and_never_waits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("decisions.jsonl");
    let (log, run) = stalled(&path, 2);
    let recorder = recorder(&log);
    for _ in 0..5 {
        recorder.open().close(Outcome::Permitted);
    }
    assert!(metric(&recorder, "countersign_decisions_dropped_total 3"));

    let writer = thread::spawn(run);
    log.shutdown(SOON).await.unwrap();
    writer.join().unwrap();
    let lines = lines(&path);
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["schema"], "countersign.dropped/v1");
    assert_eq!(lines[0]["count"], 3);
    // Lost records count as requests all the same.
    let counted = r#"countersign_requests_total{outcome="permitted",reason="permitted",target="",policy=""} 5"#;
    assert!(metric(&recorder, counted));
}

#[tokio::test]
async fn a_sink_that_cannot_be_written_is_counted_and_nothing_stops() {
    let (log, run) = stalled(Path::new("/dev/full"), 8);
    let recorder = recorder(&log);
    for _ in 0..3 {
        recorder.open().close(Outcome::Permitted);
    }
    // The writer starts when all is in the queue: one batch, so one error.
    let (ended, writer) = tokio::join!(log.shutdown(SOON), async { thread::spawn(run) });
    ended.unwrap();
    writer.join().unwrap();
    assert!(metric(&recorder, "countersign_decisions_dropped_total 3"));
    assert!(metric(
        &recorder,
        "countersign_decision_write_errors_total 1"
    ));
}

#[tokio::test]
async fn any_writer_gets_whole_lines() {
    let (mut reader, writer) = io::pipe().unwrap();
    let log = DecisionLog::to_writer(Box::new(writer)).unwrap();
    let recorder = recorder(&log);
    recorder.open().close(Outcome::Permitted);
    recorder.open().close(Outcome::Tunnelled);
    log.shutdown(SOON).await.unwrap();
    let mut text = String::new();
    io::Read::read_to_string(&mut reader, &mut text).unwrap();
    let outcomes: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["permitted", "tunnelled"]);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_stuck_does_not_hold_up_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _never_run) = stalled(&directory.path().join("decisions.jsonl"), 1);
    recorder(&log).open().close(Outcome::Permitted);
    assert!(log.shutdown(Duration::from_secs(2)).await.is_err());
}

#[tokio::test]
async fn records_after_the_end_are_counted_as_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("decisions.jsonl");
    let (log, run) = stalled(&path, 8);
    let recorder = recorder(&log);
    let writer = thread::spawn(run);
    log.shutdown(SOON).await.unwrap();
    writer.join().unwrap();
    recorder.open().close(Outcome::Permitted);
    assert!(metric(&recorder, "countersign_decisions_dropped_total 1"));
    log.shutdown(SOON).await.unwrap();
}

#[tokio::test]
async fn a_moved_file_is_opened_again_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("decisions.jsonl");
    let moved = directory.path().join("moved");
    let (log, run) = stalled(&path, 8);
    let recorder = recorder(&log);
    recorder.open().close(Outcome::Permitted);
    log.reopen();
    fs::rename(&path, &moved).unwrap();
    recorder.open().close(Outcome::Tunnelled);
    let writer = thread::spawn(run);
    log.shutdown(SOON).await.unwrap();
    writer.join().unwrap();
    assert_eq!(lines(&moved)[0]["outcome"], "permitted");
    assert_eq!(lines(&path)[0]["outcome"], "tunnelled");
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let sink = DecisionSink::File("/nonexistent/decisions.jsonl".into());
    let error = DecisionLog::start(&sink).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the decision log /nonexistent/decisions.jsonl cannot be opened"
    );
}

#[tokio::test]
async fn each_clone_of_a_memory_log_reads_from_where_it_is() {
    let (log, mut memory) = DecisionLog::memory();
    let recorder = recorder(&log);
    recorder.open().close(Outcome::Permitted);
    assert_eq!(memory.next().await["outcome"], "permitted");
    let mut clone = memory.clone();
    let waiting = tokio::spawn(async move { clone.next().await });
    recorder.open().close(Outcome::Tunnelled);
    assert_eq!(waiting.await.unwrap()["outcome"], "tunnelled");
    assert_eq!(memory.next().await["outcome"], "tunnelled");
    assert_eq!(memory.all().len(), 2);
}
