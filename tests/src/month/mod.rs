//! A synthetic month of decision logs: 40 workloads behind three gateways, deploys, a change of the clocks, twelve
//! incidents, and four things that look like an incident of access and are none.
//!
//! The same seed gives the same month. Nothing here knows how triage works; the incidents are told as the gateway
//! would tell them, and the tests say what an SRE must be told.

mod expected;
mod incidents;
mod line;
mod workloads;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use self::workloads::Workload;
pub use self::{
    expected::{DECOYS, Decoy, INCIDENTS, Incident},
    line::{Event, Record},
};

/// The gateways' names.
pub const GATEWAYS: [&str; 3] = ["gateway-0", "gateway-1", "gateway-2"];

/// The first moment of the month: a Monday. The clocks of Europe change on 25 October.
pub const START: &str = "2026-10-05T00:00:00Z";

/// Its length in days.
pub const DAYS: i64 = 30;

/// A month, line by line.
#[derive(Debug)]
pub struct Month {
    /// The lines of each gateway, by the time when they were written.
    lines: [Vec<(Timestamp, String)>; 3],
    workloads: Vec<Workload>,
    random: Random,
    revision: u64,
    /// By gateway and credential.
    generations: BTreeMap<(usize, String), u64>,
    /// One record of each kind, for comparison with the real ones.
    pub samples: BTreeMap<&'static str, Record>,
    /// One event of each kind.
    pub events: BTreeMap<&'static str, Event>,
}

/// A small generator of Marsaglia's (xorshift64*); the tests need no better one, and always the same.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator that begins with this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.number() >> 16) % bound
    }
}

impl Month {
    /// The month of a seed, with everything in it.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, |_| true)
    }

    /// The month with only the incidents and decoys of some names.
    pub fn with(seed: u64, wanted: impl Fn(&str) -> bool) -> Self {
        let mut month = Self {
            lines: Default::default(),
            workloads: workloads::all(),
            random: Random::new(seed),
            revision: 0x0041_d07e,
            generations: BTreeMap::new(),
            samples: BTreeMap::new(),
            events: BTreeMap::new(),
        };
        for gateway in 0..GATEWAYS.len() {
            month.event(gateway, at(0, 0, 0), "started", &json!({}));
        }
        month.background(&wanted);
        month.usual_changes();
        for lines in &mut month.lines {
            lines.sort_by_key(|(time, _)| *time);
        }
        month
    }

    /// The log of one gateway.
    pub fn log(&self, gateway: usize) -> String {
        self.lines[gateway]
            .iter()
            .map(|(_, line)| line.as_str())
            .collect()
    }

    /// How many lines there are.
    pub fn count(&self) -> usize {
        self.lines.iter().map(Vec::len).sum()
    }

    /// What every workload does, with the incidents in it.
    fn background(&mut self, wanted: &impl Fn(&str) -> bool) {
        let workloads = self.workloads.clone();
        for workload in &workloads {
            for day in 0..DAYS {
                let runs = workload.runs(day);
                for (hour, minute) in runs {
                    let start = at(day, hour, minute);
                    let gateway = usize::try_from(self.random.below(3)).unwrap_or_default();
                    for number in 0..workload.requests {
                        let jitter = i64::try_from(self.random.below(900)).unwrap_or_default();
                        let time = start + SignedDuration::from_millis(number * 2_000 + jitter);
                        let record = self.record(workload, gateway, time, number);
                        self.tell(workload, gateway, time, record, wanted);
                    }
                }
            }
        }
        self.tell_events(wanted);
    }

    /// A request that goes through.
    pub(crate) fn record(
        &mut self,
        workload: &Workload,
        gateway: usize,
        time: Timestamp,
        number: i64,
    ) -> Record {
        let random = self.random.number();
        let mut record = Record::at(time, random);
        let request = workload.request(number);
        record.caller = json!({
            "proof": "service-account-token", "issuer": "prod-eu",
            "subject": format!("system:serviceaccount:{}:{}", workload.namespace(), workload.account()),
            "pod": workload.pod(time), "token_id": format!("{random:016x}-jti"),
            "client": workload.client(time),
        });
        record.workload =
            json!({"name": workload.name, "owner": workload.owner, "environment": "production"});
        record.policy = json!({
            "name": workload.policy, "rule": 0, "mode": "enforce", "revision": format!("{:06x}", self.revision),
        });
        record.target = json!({
            "name": request.target, "authority": format!("{}:443", request.host), "method": request.method,
            "path": request.path, "protocol": "h2",
        });
        // Slack's rotation gives another value about every eleven hours.
        let life = 11 * 3600;
        let since = u64::try_from(time.as_second()).unwrap_or_default();
        let generation = if workload.rotates {
            since / life % 1000
        } else {
            1
        };
        self.generations
            .insert((gateway, workload.credential.to_owned()), generation);
        let expires = workload.rotates.then(|| 12 * 3600 - since % life);
        record.credential = json!({
            "name": workload.credential, "slot": "bot", "generation": generation, "age_s": since % life,
            "expires_in_s": expires,
        });
        record.answered(Some(200), None);
        record
    }

    /// Changes that harm nobody: each week another revision, and a restart of each gateway, one after another.
    fn usual_changes(&mut self) {
        for week in 0..4 {
            let time = at(week * 7 + 2, 10, 30);
            let changes = json!([{"change": "changed", "kind": "AccessPolicy", "name": "docs/reads-the-wiki"}]);
            self.reload(time, &changes, 1);
            for gateway in 0..3 {
                let time = at(
                    week * 7 + 4,
                    3,
                    15 + i64::try_from(gateway).unwrap_or_default() * 5,
                );
                self.restart(gateway, time);
            }
        }
    }

    /// A restart that was meant.
    pub(crate) fn restart(&mut self, gateway: usize, time: Timestamp) {
        self.event(gateway, time, "draining", &json!({"open": 4}));
        self.event(
            gateway,
            time + SignedDuration::from_secs(3),
            "stopped",
            &json!({"cut_off": 0}),
        );
        self.event(
            gateway,
            time + SignedDuration::from_secs(9),
            "started",
            &json!({}),
        );
    }

    /// All gateways load another revision.
    pub(crate) fn reload(&mut self, time: Timestamp, changes: &serde_json::Value, changed: u64) {
        let previous = format!("{:06x}", self.revision);
        self.revision += 0x0001_0001;
        for gateway in 0..3 {
            let time = time
                + SignedDuration::from_millis(400 * i64::try_from(gateway).unwrap_or_default());
            let more =
                json!({"previous_revision": previous, "changes": changes, "changed": changed});
            self.event(gateway, time, "reloaded", &more);
        }
    }

    pub(crate) fn event(
        &mut self,
        gateway: usize,
        time: Timestamp,
        name: &'static str,
        more: &serde_json::Value,
    ) {
        let event = Event::new(time, name, &format!("{:06x}", self.revision), more);
        self.push(gateway, time, event.line());
        self.events.entry(name).or_insert(event);
    }

    pub(crate) fn write(
        &mut self,
        gateway: usize,
        time: Timestamp,
        kind: &'static str,
        record: Record,
    ) {
        self.push(gateway, time, record.line());
        self.samples.entry(kind).or_insert(record);
    }

    fn push(&mut self, gateway: usize, time: Timestamp, line: String) {
        self.lines[gateway].push((time, line));
    }
}

/// A moment of the month, in UTC.
///
/// # Panics
/// Never: the start is a time.
pub fn at(day: i64, hour: i64, minute: i64) -> Timestamp {
    let start: Timestamp = START.parse().expect("the start is a time");
    start + SignedDuration::from_mins((day * 24 + hour) * 60 + minute)
}
