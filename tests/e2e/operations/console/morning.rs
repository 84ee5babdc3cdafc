//! A morning in the log of a gateway: what ran through in the last day, and what failed, ending just now.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// The workloads of the morning.
pub(super) const RELEASE_NOTES: &str = "release-notes";
pub(super) const FLAKY_TESTS: &str = "flaky-tests";

/// The revision that was in force in the morning.
const REVISION: &str = "41d07e";

/// The lines of a morning that ends now.
pub(super) struct Morning {
    now: Timestamp,
    lines: Vec<(Timestamp, String)>,
}

/// A request, before it is known what became of it.
struct Asked<'a> {
    workload: &'a str,
    minutes_ago: i64,
    target: (&'a str, &'a str),
    method: &'a str,
    path: &'a str,
    credential: &'a str,
}

impl Morning {
    /// The lines, the oldest first.
    pub(super) fn log(now: Timestamp) -> String {
        let revision = REVISION;
        let mut morning = Self {
            now,
            lines: Vec::new(),
        };
        morning.usual_day(revision);
        morning.policy_changed(revision);
        morning.token_revoked(revision);
        morning.qase_was_slow(revision);
        morning.old_tokens();
        morning.lines.sort_by_key(|(at, _)| *at);
        morning.lines.into_iter().map(|(_, line)| line).collect()
    }

    /// Requests of every hour, which went through.
    fn usual_day(&mut self, revision: &str) {
        for hour in 0..24 {
            for number in 0..6 + (hour * 7) % 11 {
                let minutes_ago = hour * 60 + (number * 5) % 60 + 1;
                let slack = number % 3 == 0;
                if slack && minutes_ago < 60 {
                    continue;
                }
                let asked = if slack {
                    Self::to_slack("nightly-dashboard", minutes_ago, "chat.postMessage")
                } else {
                    reads_runs(FLAKY_TESTS, minutes_ago)
                };
                self.permitted(&asked, revision);
            }
        }
    }

    /// Since a revision three hours ago, the dashboard may not update its message any more.
    fn policy_changed(&mut self, revision: &str) {
        let at = self.ago(180);
        let event = json!({
            "schema": "countersign.event/v1", "time": text(at), "event": "reloaded", "version": "0.1.0",
            "revision": revision, "previous_revision": "9f2c1a",
            "changes": [{"change": "changed", "kind": "AccessPolicy", "name": "qa/dashboard-posts-to-slack"}],
            "changed": 1,
        });
        self.add(at, &event);
        for minutes_ago in [300, 290, 280] {
            let asked = Self::to_slack("nightly-dashboard", minutes_ago, "chat.update");
            self.permitted(&asked, "9f2c1a");
        }
        for number in 0..14 {
            let asked = Self::to_slack("nightly-dashboard", 48 - number * 3, "chat.update");
            let mut record = self.record(&asked);
            record["outcome"] = json!("refused");
            record["reason"] = json!("request_not_allowed");
            record["blame"] = json!("operator");
            record["revision"] = json!(revision);
            record["nearest"] = json!({"policy": "qa/dashboard-posts-to-slack", "rule": 0, "mismatches": [{
                "what": "paths", "expected": "/api/chat.postMessage and 6 more", "actual": "/api/chat.update"}]});
            self.add(self.ago(asked.minutes_ago), &record);
        }
    }

    /// Slack has revoked the token of the release notes.
    fn token_revoked(&mut self, revision: &str) {
        for minutes_ago in [26, 19, 11, 4] {
            let asked = Self::to_slack(RELEASE_NOTES, minutes_ago, "chat.postMessage");
            let mut record = self.sent(&asked, revision);
            record["outcome"] = json!("failed");
            record["reason"] = json!("credential_rejected");
            record["blame"] = json!("operator");
            record["credential"]["rejected"] =
                json!({"generation": 3, "api_error": "token_revoked"});
            record["upstream"]["api_error"] = json!("token_revoked");
            record["detail"] = json!(
                "slack.com rejected generation 3 of qa/slack-bot with token_revoked; the source still has the same value"
            );
            self.add(self.ago(minutes_ago), &record);
        }
    }

    /// For a quarter of an hour at night Qase did not answer.
    fn qase_was_slow(&mut self, revision: &str) {
        for minutes_ago in [405, 402, 399, 396, 393] {
            let asked = reads_runs(FLAKY_TESTS, minutes_ago);
            let mut record = self.sent(&asked, revision);
            record["outcome"] = json!("failed");
            record["reason"] = json!("upstream_timeout");
            record["blame"] = json!("upstream");
            record["upstream"]["status"] = Value::Null;
            record["detail"] = json!("api.qase.io sent no response head within 60s");
            self.add(self.ago(minutes_ago), &record);
        }
    }

    /// A pod that does not read its token again.
    fn old_tokens(&mut self) {
        for minutes_ago in [52, 41, 33, 21, 9, 2] {
            let asked = Self::to_slack("nightly-dashboard", minutes_ago, "chat.postMessage");
            let mut record = self.record(&asked);
            for key in ["workload", "credential"] {
                record[key] = Value::Null;
            }
            record["outcome"] = json!("refused");
            record["reason"] = json!("identity_expired");
            record["blame"] = json!("caller");
            record["caller"] = json!({"proof": null, "issuer": null, "subject": null, "pod": null, "token_id": null, "client": "10.4.7.31:40112"});
            record["target"] = json!({"name": null, "authority": "slack.com:443", "method": null, "path": null, "protocol": "connect"});
            record["refused_token"] = json!({"issuer": "prod-eu", "subject": "system:serviceaccount:qa:screenshots",
                "namespace": "qa", "service_account": "screenshots", "pod": "screenshots-29411-x8k2p", "audiences": ["countersign"]});
            self.add(self.ago(minutes_ago), &record);
        }
    }

    fn to_slack<'a>(workload: &'a str, minutes_ago: i64, method: &'a str) -> Asked<'a> {
        Asked {
            workload,
            minutes_ago,
            target: ("slack", "slack.com:443"),
            method: "POST",
            path: method,
            credential: "qa/slack-bot",
        }
    }

    fn permitted(&mut self, asked: &Asked<'_>, revision: &str) {
        let record = self.sent(asked, revision);
        self.add(self.ago(asked.minutes_ago), &record);
    }

    fn ago(&self, minutes: i64) -> Timestamp {
        self.now - SignedDuration::from_mins(minutes)
    }

    fn add(&mut self, at: Timestamp, record: &Value) {
        self.lines.push((at, format!("{record}\n")));
    }

    /// A request that was sent and answered.
    fn sent(&self, asked: &Asked<'_>, revision: &str) -> Value {
        let mut record = self.record(asked);
        let policy = match asked.target.0 {
            "slack" => "qa/dashboard-posts-to-slack",
            _ => "qa/dashboard-reads-qase",
        };
        record["policy"] =
            json!({"name": policy, "rule": 0, "mode": "enforce", "revision": revision});
        record["credential"] = json!({"name": asked.credential, "slot": "bot", "generation": 3, "age_s": 7_200, "expires_in_s": null, "stale": false});
        record["upstream"] = json!({"address": "203.0.113.7:443", "reused": true, "status": 200, "api_error": null, "replayed": false});
        record["bytes"] = json!({"request": 512, "response": 1_024});
        record
    }

    fn record(&self, asked: &Asked<'_>) -> Value {
        let at = self.ago(asked.minutes_ago);
        let path = match asked.target.0 {
            "slack" => format!("/api/{}", asked.path),
            _ => asked.path.to_owned(),
        };
        json!({
            "schema": "countersign.decision/v1", "time": text(at), "id": self.id(at),
            "trace_id": null, "outcome": "permitted", "reason": "permitted", "blame": null, "listener": "proxy",
            "caller": {"proof": "service-account-token", "issuer": "prod-eu",
                "subject": format!("system:serviceaccount:qa:{}", asked.workload),
                "pod": format!("{}-29411-x8k2p", asked.workload), "token_id": "1", "client": "10.4.7.12:51812"},
            "workload": {"name": format!("qa/{}", asked.workload), "owner": "qa-platform@example.com", "environment": "production"},
            "policy": null,
            "target": {"name": asked.target.0, "authority": asked.target.1, "method": asked.method, "path": path, "protocol": "http/1.1"},
            "credential": null, "upstream": null, "bytes": {"request": 0, "response": 0},
            "timing_us": {"identify": 180, "authorize": 12, "credential": 3, "connect": 0, "first_byte": 81_200, "total": 81_950},
        })
    }

    /// A UUID of version 7, another one for each line.
    fn id(&self, at: Timestamp) -> String {
        let milliseconds = u64::try_from(at.as_millisecond()).unwrap_or_default();
        let (high, low) = (milliseconds >> 16, milliseconds & 0xffff);
        format!("{high:08x}-{low:04x}-7000-8000-{:012x}", self.lines.len())
    }
}

fn reads_runs(workload: &str, minutes_ago: i64) -> Asked<'_> {
    Asked {
        workload,
        minutes_ago,
        target: ("qase", "api.qase.io:443"),
        method: "GET",
        path: "/v1/run/DEMO",
        credential: "qa/qase-reader",
    }
}

fn text(at: Timestamp) -> String {
    format!("{at:.3}")
}
