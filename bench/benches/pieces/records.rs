//! Opening, filling in and closing a record, as a permitted request does.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use countersign_config::model::Policy;
use countersign_core::{clock::Clock, destination::Authority, metrics::Metrics};
use countersign_gateway::observe::{
    ByteCounts, CallerPart, DecisionLog, Outcome, PolicyPart, Recorder, TargetPart,
};
use http::{Method, uri::PathAndQuery};

use super::dashboard;

/// Records of one request after the other, and the log that takes them.
pub(crate) struct Records {
    recorder: Recorder,
    written: Arc<AtomicU64>,
    sent: u64,
    caller: Arc<CallerPart>,
    policy: Arc<Policy>,
    revision: Arc<str>,
    listener: Arc<str>,
    authority: Authority,
    path: PathAndQuery,
}

impl Records {
    /// Fewer than the log's queue holds, so that none is dropped.
    pub(crate) const BATCH: u64 = 4096;

    pub(crate) fn new() -> Self {
        let written = Arc::new(AtomicU64::new(0));
        let sink = Lines(Arc::clone(&written));
        let log = DecisionLog::to_writer(Box::new(sink)).expect("a thread");
        Self {
            recorder: Recorder::new(log, Metrics::new(), Clock::system()),
            written,
            sent: 0,
            caller: Arc::new(CallerPart {
                proof: "service-account-token",
                issuer: Some("prod-eu".into()),
                subject: Some("system:serviceaccount:qa:nightly-dashboard".into()),
                pod: Some("nightly-dashboard-29341-x8k2p".into()),
                kubernetes: None,
                token_id: Some("7a357c9a-0f0e-4d0c-8a3b-6d1f2e3c4b5a".into()),
            }),
            policy: Arc::clone(&dashboard(0).policies()[0]),
            revision: "9f2c1a".into(),
            listener: "proxy".into(),
            authority: Authority::with_port("slack.com:443").expect("it is canonical"),
            path: PathAndQuery::from_static("/api/chat.postMessage"),
        }
    }

    /// What the request path does for one.
    pub(crate) fn record(&mut self) {
        let mut record = self.recorder.open();
        record.listener = Some(Arc::clone(&self.listener));
        record.client = Some(([10, 0, 0, 7], 51234).into());
        record.caller = Some(Arc::clone(&self.caller));
        record.workload = self.policy.workloads.first().cloned();
        record.policy = Some(PolicyPart {
            policy: Arc::clone(&self.policy),
            rule: Some(0),
            revision: Arc::clone(&self.revision),
            would_refuse: None,
        });
        record.target = Some(TargetPart {
            name: Some(self.policy.target.name.clone()),
            authority: self.authority.clone(),
            method: Some(Method::POST),
            path: Some(self.path.clone().into()),
            protocol: "h2",
        });
        ByteCounts::add_request(&record.bytes, 512);
        ByteCounts::add_response(&record.bytes, 1024);
        record.close(Outcome::Permitted);
        self.sent += 1;
    }

    /// Waits until the log's thread has written all of them.
    pub(crate) fn written(&self) {
        while self.written.load(Ordering::Acquire) < self.sent {
            thread::yield_now();
        }
    }
}

/// Counts the lines it is given.
struct Lines(Arc<AtomicU64>);

impl io::Write for Lines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let ends = lines.split_inclusive(|byte| *byte == b'\n').count();
        let ends = u64::try_from(ends).map_err(io::Error::other)?;
        self.0.fetch_add(ends, Ordering::Release);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
