//! What the gateway computes for every request, each piece on its own:
//! `cargo bench -p countersign-bench`.
#![allow(missing_docs, reason = "the macros of criterion make public items")]

use std::{
    fmt::Write as _,
    fs,
    hint::black_box,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use countersign::{
    clock::Clock,
    destination::Authority,
    observe::{
        ByteCounts, CallerPart, DecisionLog, Metrics, Outcome, PolicyPart, Recorder, TargetPart,
    },
    pipeline::Search,
};
use countersign_config::{
    host::Host,
    load,
    model::Policy,
    path::CanonicalPath,
    policy::{CallerFacts, Decision, PolicySet, RequestFacts},
};
use criterion::{Criterion, criterion_group, criterion_main};
use http::{Method, uri::PathAndQuery};
use jiff::Timestamp;

criterion_group!(benches, canonicalise, decide, echo, record);
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

/// Looking for the credential in a body, by the piece.
fn echo(criterion: &mut Criterion) {
    let secret = b"xoxb-123456789012-1234567890123-abcdefghijklmnopqrstuvwx";
    let text = b"{\"ok\":true,\"channel\":\"C0123456789\",\"ts\":\"1503435956.000247\"},";
    let mut group = criterion.benchmark_group("echo");
    for bytes in [64, 1024, 16 * 1024] {
        let piece: Vec<u8> = text.iter().copied().cycle().take(bytes).collect();
        group.bench_function(format!("{bytes} bytes"), |bencher| {
            let mut search = Search::default();
            bencher.iter(|| search.look(black_box(secret), black_box(&piece)));
        });
    }
    group.finish();
}

/// The decision among few policies and among many: it must not depend on how many there are.
fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for others in [0, 1000] {
        let policies = policies(others);
        let caller = CallerFacts {
            cluster: Some("prod-eu".into()),
            namespace: Some("qa".into()),
            service_account: Some("nightly-dashboard".into()),
            ..CallerFacts::default()
        };
        let who = policies.recognise(&caller);
        let host = Host::parse("slack.com").expect("it is a host");
        let now: Timestamp = "2026-11-23T05:10:00Z".parse().expect("it is a time");
        for (name, path, permitted) in [
            ("permitted", "/api/chat.postMessage", true),
            ("refused", "/api/chat.delete", false),
        ] {
            let path = CanonicalPath::check(&PathAndQuery::from_static(path)).expect("canonical");
            let request = RequestFacts {
                host: &host,
                port: 443,
                method: &Method::POST,
                path: &path,
            };
            let decision = policies.decide(&who, &caller, &request, now);
            assert_eq!(matches!(decision, Decision::Permit(_)), permitted);
            group.bench_function(format!("{name}, {others} other policies"), |bencher| {
                bencher.iter(|| {
                    black_box(policies.decide(&who, &caller, black_box(&request), now));
                });
            });
        }
        group.bench_function(format!("recognise, {others} other policies"), |bencher| {
            bencher.iter(|| black_box(policies.recognise(black_box(&caller))));
        });
    }
    group.finish();
}

/// Opening, filling in and closing a record, as the request path pays for it; and the same
/// including the thread that writes it.
fn record(criterion: &mut Criterion) {
    let written = Arc::new(AtomicU64::new(0));
    let sink = Lines(Arc::clone(&written));
    let log = DecisionLog::to_writer(Box::new(sink)).expect("a thread");
    let recorder = Recorder::new(log, Metrics::new(), Clock::system());
    let policies = policies(0);
    let filling = Filling::new(&policies.policies()[0]);
    let mut sent = 0;
    let mut group = criterion.benchmark_group("record");
    for (name, with_writer) in [("request path", false), ("request path and writer", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|records| {
                let mut elapsed = Duration::ZERO;
                let mut left = records;
                while left > 0 {
                    // Fewer than the queue holds, so that nothing is dropped.
                    let batch = left.min(4096);
                    let start = tokio::time::Instant::now();
                    for _ in 0..batch {
                        filling.record(&recorder);
                    }
                    let path = start.elapsed();
                    sent += batch;
                    while written.load(Ordering::Acquire) < sent {
                        thread::yield_now();
                    }
                    elapsed += if with_writer { start.elapsed() } else { path };
                    left -= batch;
                }
                elapsed
            });
        });
    }
    group.finish();
}

/// What a permitted request leaves in its record.
struct Filling {
    caller: Arc<CallerPart>,
    policy: Arc<Policy>,
    revision: Arc<str>,
    listener: Arc<str>,
    authority: Authority,
    path: PathAndQuery,
}

impl Filling {
    fn new(policy: &Arc<Policy>) -> Self {
        Self {
            caller: Arc::new(CallerPart {
                proof: "service-account-token",
                issuer: Some("prod-eu".into()),
                subject: Some("system:serviceaccount:qa:nightly-dashboard".into()),
                pod: Some("nightly-dashboard-29341-x8k2p".into()),
                token_id: Some("7a357c9a-0f0e-4d0c-8a3b-6d1f2e3c4b5a".into()),
            }),
            policy: Arc::clone(policy),
            revision: "9f2c1a".into(),
            listener: "proxy".into(),
            authority: Authority::with_port("slack.com:443").expect("it is canonical"),
            path: PathAndQuery::from_static("/api/chat.postMessage"),
        }
    }

    fn record(&self, recorder: &Recorder) {
        let mut record = recorder.open();
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

/// The dashboard's policy, among `others` that speak of other workloads.
fn policies(others: usize) -> PolicySet {
    let mut yaml = String::from(CREDENTIAL);
    for number in 0..=others {
        let name = match number {
            0 => "nightly-dashboard".to_owned(),
            number => format!("other-{number}"),
        };
        write!(yaml, "{}", WORKLOAD.replace("{name}", &name)).expect("a String takes it");
    }
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("policy.yaml"), yaml).expect("a file");
    match load::resources(&[directory.path()]) {
        Ok(loaded) => loaded.policies,
        Err(problems) => panic!("{problems:?}"),
    }
}

const CREDENTIAL: &str = "\
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: slack-bot, namespace: qa }
spec:
  target: slack
  static:
    token: { file: /run/secrets/slack/token }
";

const WORKLOAD: &str = "\
---
apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: {name}, namespace: qa }
spec:
  owner: qa-platform@example.com
  purpose: Posts last night's test results
  match:
    - { cluster: prod-eu, serviceAccount: {name} }
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: {name}-posts, namespace: qa }
spec:
  owner: qa-platform@example.com
  workloads: [{name}]
  target: slack
  credential: slack-bot
  allow:
    - methods: [POST]
      paths: [/api/chat.postMessage, \"/api/files.*\"]
  conditions:
    schedule: { cron: \"0 6 * * MON-FRI\", duration: 45m, timeZone: Europe/Berlin }
    rate: 60/m
";
