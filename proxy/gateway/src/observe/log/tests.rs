use std::{collections::HashMap, fs, path::Path};

use serde_json::Value;

use super::*;
use crate::observe::{Outcome, Recorder, fixture};

const DROPPED: &str = r#"countersign_decisions_dropped_total{class="identified"}"#;

const REFUSED: Outcome = Outcome::Refused {
    reason: "identity_missing",
    blame: "caller",
};

const SOON: Duration = Duration::from_secs(10);

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn to_file(path: &Path) -> Observe {
    Observe {
        decisions: vec![DecisionSink::file(path.to_owned())],
        audit: None,
        admin: None,
        traces: None,
        console: None,
    }
}

/// Closes the record of a proven caller's request.
fn close(recorder: &Recorder, outcome: Outcome) {
    let mut record = recorder.open();
    record.caller = Some(fixture::caller("one"));
    record.close(outcome);
}

fn recorder(log: &DecisionLog) -> Recorder {
    Recorder::new(log.clone(), Metrics::new(), fixture::clock())
}

fn metric(recorder: &Recorder, line: &str) -> bool {
    let text = recorder.metrics().encode().unwrap();
    text.lines().any(|there| there == line)
}

#[tokio::test]
async fn connections_that_gave_way_are_told_in_sum() {
    let (mut reader, writer) = io::pipe().unwrap();
    let log = DecisionLog::to_writer(Box::new(writer)).unwrap();
    let recorder = recorder(&log);
    let node = IpAddr::from([192, 0, 2, 1]);
    for why in ["source_full", "listener_full", "source_full"] {
        recorder.shed(false, node, why);
    }
    log.shutdown(SOON).await.unwrap();
    let mut text = String::new();
    io::Read::read_to_string(&mut reader, &mut text).unwrap();
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["schema"], "countersign.shed/v1");
    assert_eq!(told["class"], "unidentified");
    assert_eq!(told["count"], 3);
    let reasons = serde_json::json!([
        { "reason": "source_full", "count": 2 },
        { "reason": "listener_full", "count": 1 },
    ]);
    assert_eq!(told["reasons"], reasons);
    let sources = serde_json::json!([{ "address": "192.0.2.1", "count": 3 }]);
    assert_eq!(told["sources"], sources);
}

/// A log whose writer is not running yet, so that its queue fills up.
fn stalled(path: &Path, records: usize) -> (DecisionLog, impl FnOnce() + Send + 'static) {
    let bounds = Bounds {
        records,
        ..IDENTIFIED
    };
    let (log, inlet) = DecisionLog::queues(bounds, bounds);
    let outputs = Outputs::files(path).unwrap();
    let writer = Writer::new(outputs, None, log.0.counts.clone());
    (log, move || writer.run(&inlet))
}

#[tokio::test]
async fn what_was_closed_before_shutdown_is_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("decisions.jsonl");
    let log = DecisionLog::start(&to_file(&path), "gateway").unwrap();
    let recorder = recorder(&log);
    for _ in 0..1000 {
        close(&recorder, Outcome::Permitted);
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
        close(&recorder, Outcome::Permitted);
    }
    assert!(metric(&recorder, &format!("{DROPPED} 3")));

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
        close(&recorder, Outcome::Permitted);
    }
    // The writer starts when all is in the queue: one batch, so one error.
    let (ended, writer) = tokio::join!(log.shutdown(SOON), async { thread::spawn(run) });
    ended.unwrap();
    writer.join().unwrap();
    assert!(metric(&recorder, &format!("{DROPPED} 3")));
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
    close(&recorder, Outcome::Permitted);
    close(&recorder, Outcome::Tunnelled);
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
    close(&recorder(&log), Outcome::Permitted);
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
    close(&recorder, Outcome::Permitted);
    assert!(metric(&recorder, &format!("{DROPPED} 1")));
    log.shutdown(SOON).await.unwrap();
}

#[tokio::test]
async fn a_moved_file_is_opened_again_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("decisions.jsonl");
    let moved = directory.path().join("moved");
    let (log, run) = stalled(&path, 8);
    let recorder = recorder(&log);
    close(&recorder, Outcome::Permitted);
    fs::rename(&path, &moved).unwrap();
    log.reopen();
    let writer = thread::spawn(run);
    log.shutdown(SOON).await.unwrap();
    writer.join().unwrap();
    assert_eq!(lines(&moved)[0]["outcome"], "permitted");
    assert_eq!(lines(&path).len(), 0);
}

#[tokio::test]
async fn t64_strangers_have_a_file_of_their_own_and_are_told_in_sum() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("decisions.jsonl");
    let log = DecisionLog::start(&to_file(&path), "gateway").unwrap();
    let recorder = recorder(&log);
    for number in 0..1000 {
        if number % 20 == 0 {
            close(&recorder, Outcome::Permitted);
        }
        let mut record = recorder.open();
        record.client = Some(([10, 0, 0, 1], number).into());
        record.close(REFUSED);
    }
    log.shutdown(SOON).await.unwrap();
    let identified = lines(&path);
    assert_eq!(identified.len(), 50);
    assert!(identified.iter().all(|line| line["outcome"] == "permitted"));
    let strangers = lines(&file::beside(&path));
    let (summaries, written): (Vec<_>, Vec<_>) = strangers
        .iter()
        .partition(|line| line["schema"] == "countersign.summary/v1");
    assert_eq!(written.len(), 50);
    let told: u64 = summaries
        .iter()
        .map(|line| line["count"].as_u64().unwrap())
        .sum();
    assert_eq!(told, 950);
    assert_eq!(summaries[0]["class"], "unidentified");
    assert_eq!(summaries[0]["reasons"][0]["reason"], "identity_missing");
    assert_eq!(summaries[0]["sources"][0]["address"], "10.0.0.1");
    let counted = r#"countersign_decisions_summarized_total{class="unidentified"} 950"#;
    assert!(metric(&recorder, counted));
}

#[tokio::test]
async fn t64_a_full_queue_of_strangers_loses_none_of_those_who_are_known() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("decisions.jsonl");
    let (log, run) = stalled(&path, 100);
    let recorder = recorder(&log);
    for _ in 0..10_000 {
        recorder.open().close(REFUSED);
    }
    for _ in 0..100 {
        close(&recorder, Outcome::Permitted);
    }
    let writer = thread::spawn(run);
    log.shutdown(SOON).await.unwrap();
    writer.join().unwrap();
    assert_eq!(lines(&path).len(), 100);
    let strangers = lines(&file::beside(&path));
    assert_eq!(strangers[0]["schema"], "countersign.dropped/v1");
    assert_eq!(strangers[0]["class"], "unidentified");
    assert_eq!(strangers[0]["count"], 9900);
}

/// Takes a mebibyte a second, by a clock that only it moves.
struct Slow {
    taken: Arc<std::sync::Mutex<Vec<u8>>>,
    permits: std::sync::mpsc::Receiver<()>,
}

impl io::Write for Slow {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        // An error is the test having let go for good.
        let _ = self.permits.recv();
        let piece = &lines[..lines.len().min(64 * 1024)];
        self.taken.lock().unwrap().extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// While the sink takes 1 MiB, one workload has 40,000 requests forwarded, ten have 20 each, and
/// strangers come in thousands.
#[tokio::test]
async fn t64_a_slow_sink_still_gets_every_forwarded_request_of_those_who_say_little() {
    let taken = Arc::<std::sync::Mutex<Vec<u8>>>::default();
    let (permit, permits) = std::sync::mpsc::channel();
    let slow = Slow {
        taken: Arc::clone(&taken),
        permits,
    };
    let log = DecisionLog::to_writer(Box::new(slow)).unwrap();
    let recorder = recorder(&log);
    let of = |subject: &str, outcome| {
        let mut record = recorder.open();
        record.caller = Some(fixture::caller(subject));
        record.close(outcome);
    };
    for _second in 0..10 {
        for number in 0..20_000 {
            of("flood", Outcome::Permitted);
            if number % 100 == 0 {
                of(&format!("honest {}", number % 1000), Outcome::Permitted);
                recorder.open().close(REFUSED);
            }
        }
        for _ in 0..16 {
            permit.send(()).unwrap();
        }
    }
    drop(permit);
    log.shutdown(SOON).await.unwrap();
    let taken = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
    assert_eq!(taken.matches(r#""subject":"honest "#).count(), 10 * 200);
    let flood = taken.matches(r#""subject":"flood""#).count();
    let lost: u64 = taken
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["schema"] == "countersign.dropped/v1")
        .map(|line| line["count"].as_u64().unwrap())
        .sum();
    assert!(lost > 0);
    assert_eq!(flood as u64 + lost, 10 * 20_000);
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let sink = to_file(Path::new("/nonexistent/decisions.jsonl"));
    let error = DecisionLog::start(&sink, "gateway").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the decision log /nonexistent/decisions.jsonl cannot be opened"
    );
}

#[tokio::test]
async fn each_clone_of_a_memory_log_reads_from_where_it_is() {
    let (log, mut memory) = DecisionLog::memory();
    let recorder = recorder(&log);
    close(&recorder, Outcome::Permitted);
    assert_eq!(memory.next().await["outcome"], "permitted");
    let mut clone = memory.clone();
    let waiting = tokio::spawn(async move { clone.next().await });
    close(&recorder, Outcome::Tunnelled);
    assert_eq!(waiting.await.unwrap()["outcome"], "tunnelled");
    assert_eq!(memory.next().await["outcome"], "tunnelled");
    assert_eq!(memory.all().len(), 2);
}

/// What a real log writes is whole for whoever verifies it, over a rotation of its chain by a restart.
#[tokio::test]
async fn a_sealed_log_is_signed_to_its_last_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("decisions.jsonl");
    let audit = countersign_config::model::Audit {
        directory: directory.path().join("audit"),
        checkpoint_every: Duration::from_hours(1),
    };
    let observe = Observe {
        audit: Some(audit.clone()),
        ..to_file(&path)
    };
    for _ in 0..2 {
        let log = DecisionLog::start(&observe, "gateway").unwrap();
        let recorder = recorder(&log);
        for _ in 0..50 {
            close(&recorder, Outcome::Permitted);
        }
        log.shutdown(SOON).await.unwrap();
    }
    let key = fs::read_to_string(audit.directory.join("audit.pub")).unwrap();
    let key = countersign_audit::VerifyingKey::decode(&key).unwrap();
    let mut trees: HashMap<String, countersign_audit::Frontier> = HashMap::new();
    let mut last = None;
    for line in fs::read_to_string(&path).unwrap().lines() {
        let (integrity, leaf) = countersign_audit::read(line.as_bytes()).unwrap();
        assert_eq!(integrity.previous, last);
        last = Some(integrity.fingerprint);
        trees.entry(integrity.chain).or_default().push(leaf);
    }
    assert_eq!(trees.len(), 2);
    for (chain, tree) in trees {
        let note = audit.directory.join(format!("{chain}.checkpoint"));
        let note = fs::read_to_string(note).unwrap();
        let checkpoint = countersign_audit::Checkpoint::verify(&note, &key).unwrap();
        assert_eq!((checkpoint.size, checkpoint.root), (50, tree.root()));
    }
}
