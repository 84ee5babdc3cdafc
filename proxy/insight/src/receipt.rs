//! What one run of a Job called: a receipt, which can be checked against the log at any later time.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    reader::{Line, Reader},
    record::{Decision, Entry, Outcome},
};

/// The schema of a receipt.
const SCHEMA: &str = "countersign.receipt/v1";

/// The most records that a receipt names; it says how many there were.
const NAMED: usize = 100_000;

/// The most failures that it lists.
const FAILURES: usize = 1000;

/// What one run called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// `countersign.receipt/v1`.
    pub schema: String,
    /// The Job, or the pod.
    pub run: String,
    /// Its workloads, `NAMESPACE/NAME`; one, unless the Job was changed meanwhile.
    pub workloads: BTreeSet<String>,
    /// Who is responsible for them.
    pub owners: BTreeSet<String>,
    /// Its pods.
    pub pods: BTreeSet<String>,
    /// Its first request.
    pub first: Option<Timestamp>,
    /// Its last request.
    pub last: Option<Timestamp>,
    /// How many requests it made.
    pub requests: u64,
    /// What it called, and by which rule.
    pub calls: Vec<Call>,
    /// The credentials that it used, and when it used them last.
    pub credentials: Vec<Used>,
    /// What did not go through.
    pub failures: Vec<Failure>,
    /// Its records.
    pub records: Vec<Named>,
}

/// Requests of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Host and port.
    pub authority: String,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The policy that decided.
    pub policy: Option<String>,
    /// The index of its rule.
    pub rule: Option<u64>,
    /// The revision.
    pub revision: Option<String>,
    /// How many went through.
    pub permitted: u64,
    /// How many did not.
    pub failed: u64,
}

/// One value of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// `NAMESPACE/NAME`.
    pub credential: String,
    /// The value's generation, which counts since its gateway started.
    pub generation: Option<u64>,
    /// How many requests carried it.
    pub requests: u64,
    /// When it was used first.
    pub first: Timestamp,
    /// When it was used last.
    pub last: Timestamp,
}

/// A request that did not go through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub time: Timestamp,
    /// Its record.
    pub id: String,
    /// Why.
    pub reason: String,
    /// Whom the gateway blames.
    pub blame: Option<String>,
}

/// A record of the run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Its fingerprint, if the log is sealed (`observe.audit`): the record cannot be replaced by another.
    pub fingerprint: Option<String>,
}

/// The receipt of a run; `None` if no record is of it.
pub fn receipt(reader: &mut Reader, run: &str) -> Option<Receipt> {
    let mut writer = Writer::default();
    reader.each(|line| writer.see(&line, run));
    writer.end(run)
}

/// How a log differs from a receipt; nothing if the receipt is true.
pub fn check(receipt: &Receipt, reader: &mut Reader) -> Vec<String> {
    let Some(now) = self::receipt(reader, &receipt.run) else {
        return vec![format!("the log has no record of {}", receipt.run)];
    };
    let mut differences = Vec::new();
    let records = |receipt: &Receipt| receipt.records.iter().cloned().collect::<BTreeSet<_>>();
    let (told, logged) = (records(receipt), records(&now));
    for missing in told.difference(&logged) {
        differences.push(format!(
            "record {} is not in the log as the receipt has it",
            missing.id
        ));
    }
    for more in logged.difference(&told) {
        differences.push(format!(
            "record {} of the log is not in the receipt",
            more.id
        ));
    }
    if differences.is_empty() && now != *receipt {
        differences.push(
            "the receipt's records are those of the log, but what it says of them is not"
                .to_owned(),
        );
    }
    differences
}

/// Authority, method, path, policy, rule and revision.
type Kind = (
    String,
    String,
    String,
    Option<String>,
    Option<u64>,
    Option<String>,
);

#[derive(Debug, Default)]
struct Writer {
    receipt: Receipt,
    calls: BTreeMap<Kind, (u64, u64)>,
    credentials: BTreeMap<(String, Option<u64>), (u64, Timestamp, Timestamp)>,
}

impl Writer {
    fn see(&mut self, line: &Line<'_>, run: &str) {
        let Entry::Decision(decision) = &line.entry else {
            return;
        };
        let pod = decision
            .caller
            .as_ref()
            .and_then(|caller| caller.pod.as_deref());
        let Some(pod) = pod.filter(|pod| is_of_run(pod, run)) else {
            return;
        };
        let receipt = &mut self.receipt;
        receipt.requests += 1;
        receipt.pods.insert(pod.to_owned());
        if let Some(workload) = &decision.workload {
            receipt.workloads.insert(workload.name.to_string());
            receipt
                .owners
                .extend(workload.owner.as_ref().map(ToString::to_string));
        }
        let time = decision.time;
        receipt.first = Some(receipt.first.map_or(time, |first| first.min(time)));
        receipt.last = Some(receipt.last.map_or(time, |last| last.max(time)));
        if receipt.records.len() < NAMED {
            let integrity = countersign_audit::read(line.json).ok();
            receipt.records.push(Named {
                id: decision.id.to_string(),
                fingerprint: integrity.map(|(integrity, _)| integrity.fingerprint),
            });
        }
        let worked = matches!(decision.outcome, Outcome::Permitted | Outcome::Tunnelled);
        if !worked && receipt.failures.len() < FAILURES {
            receipt.failures.push(Failure {
                time,
                id: decision.id.to_string(),
                reason: decision.reason.to_string(),
                blame: decision.blame.as_ref().map(ToString::to_string),
            });
        }
        self.count(decision, worked);
    }

    fn count(&mut self, decision: &Decision<'_>, worked: bool) {
        let policy = decision.policy.as_ref();
        if let Some(target) = &decision.target {
            let key = (
                target.authority.to_string(),
                target.method.as_deref().unwrap_or("CONNECT").to_owned(),
                target.path.as_deref().unwrap_or_default().to_owned(),
                policy.map(|policy| policy.name.to_string()),
                policy.and_then(|policy| policy.rule),
                policy.and_then(|policy| policy.revision.as_ref().map(ToString::to_string)),
            );
            let counts = self.calls.entry(key).or_default();
            counts.0 += u64::from(worked);
            counts.1 += u64::from(!worked);
        }
        if let Some(credential) = &decision.credential {
            let time = decision.time;
            let key = (credential.name.to_string(), credential.generation);
            let used = self.credentials.entry(key).or_insert((0, time, time));
            used.0 += 1;
            used.1 = used.1.min(time);
            used.2 = used.2.max(time);
        }
    }

    fn end(self, run: &str) -> Option<Receipt> {
        let mut receipt = self.receipt;
        if receipt.requests == 0 {
            return None;
        }
        SCHEMA.clone_into(&mut receipt.schema);
        run.clone_into(&mut receipt.run);
        // Whatever order the files were read in.
        receipt.records.sort();
        receipt
            .failures
            .sort_by(|one, other| (one.time, &one.id).cmp(&(other.time, &other.id)));
        let calls = self.calls.into_iter();
        receipt.calls = calls
            .map(
                |((authority, method, path, policy, rule, revision), (permitted, failed))| Call {
                    authority,
                    method,
                    path,
                    policy,
                    rule,
                    revision,
                    permitted,
                    failed,
                },
            )
            .collect();
        let credentials = self.credentials.into_iter();
        receipt.credentials = credentials
            .map(|((credential, generation), (requests, first, last))| Used {
                credential,
                generation,
                requests,
                first,
                last,
            })
            .collect();
        Some(receipt)
    }
}

/// Whether a pod is that of a run: it is named, or is one of the Job that is named.
pub(crate) fn is_of_run(pod: &str, run: &str) -> bool {
    let rest = pod.strip_prefix(run);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use countersign_audit::Chain;

    use super::*;

    fn record(number: u32, pod: &str, outcome: &str) -> String {
        format!(
            r#"{{"schema":"countersign.decision/v1","time":"2026-11-23T06:00:{number:02}.000Z","id":"id-{number}","outcome":"{outcome}","reason":"{outcome}","blame":null,"caller":{{"pod":"{pod}"}},"workload":{{"name":"qa/nightly","owner":"qa@example.com"}},"policy":{{"name":"qa/posts","rule":0,"revision":"9f2c1a"}},"target":{{"authority":"slack.com:443","method":"POST","path":"/api/chat.postMessage"}},"credential":{{"name":"qa/slack-bot","generation":7}}}}"#
        )
    }

    fn log() -> String {
        let mut chain = Chain::new("0194", None);
        let mut out = Vec::new();
        for line in [
            record(1, "nightly-29341-x8k2p", "permitted"),
            record(2, "nightly-29341-x8k2p", "refused"),
            // Of the next run, and of a Job whose name begins alike.
            record(3, "nightly-29342-abcde", "permitted"),
            record(4, "nightly-293410-abcde", "permitted"),
            record(5, "nightly-29341-zzzzz", "permitted"),
        ] {
            chain.seal(line.as_bytes(), &mut out).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    fn reader(log: &str) -> Reader {
        Reader::stream("-", Cursor::new(log.to_owned()))
    }

    #[test]
    fn a_receipt_says_what_one_run_called() {
        let receipt = receipt(&mut reader(&log()), "nightly-29341").unwrap();
        assert_eq!(
            (receipt.requests, receipt.pods.len(), receipt.failures.len()),
            (3, 2, 1)
        );
        assert_eq!(receipt.calls.len(), 1);
        assert_eq!(
            (receipt.calls[0].permitted, receipt.calls[0].failed),
            (2, 1)
        );
        assert_eq!(receipt.credentials[0].requests, 3);
        assert_eq!(receipt.failures[0].id, "id-2");
        assert!(receipt.records.iter().all(|one| one.fingerprint.is_some()));
        assert!(self::receipt(&mut reader(&log()), "nightly-1").is_none());
    }

    #[test]
    fn a_receipt_is_checked_against_the_log() {
        let log = log();
        let mut told = receipt(&mut reader(&log), "nightly-29341").unwrap();
        let again: Receipt = serde_json::from_str(&serde_json::to_string(&told).unwrap()).unwrap();
        assert_eq!(check(&again, &mut reader(&log)), Vec::<String>::new());
        // A record was removed from the log, replaced in it, or left out of the receipt.
        let (_, removed) = log.split_once('\n').expect("there are lines");
        assert!(check(&told, &mut reader(removed))[0].contains("id-1 is not in the log"));
        let changed = log.replacen("\"permitted\"", "\"refused\"", 1);
        assert!(!check(&told, &mut reader(&changed)).is_empty());
        told.calls[0].failed = 0;
        assert!(check(&told, &mut reader(&log))[0].contains("what it says of them is not"));
        told.records.remove(0);
        assert!(check(&told, &mut reader(&log))[0].contains("is not in the receipt"));
    }
}
