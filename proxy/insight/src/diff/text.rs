//! A comparison as text for people, as Markdown and as JSON.

use std::fmt::Write as _;

use countersign_config::policy::CallerFacts;
use serde_json::{Value, json};

use super::{Described, Difference, Effect, Example, Outcome, Report};
use crate::space::times::Interval;

/// The name and version of the JSON document.
const SCHEMA: &str = "countersign.diff/v1";

/// The most intervals in JSON: thousands are of no use to a reader, but their number and the first ones are.
const MAX_TIMES: usize = 100;

/// The most workloads that are named for one difference in a text; JSON has all.
const MAX_NAMES: usize = 5;

impl Difference {
    /// `permits`, `refuses`, `governs`, `frees`, `credential`, `trial` or `unknown`.
    pub fn kind(&self) -> &'static str {
        if !self.unknown.is_empty() {
            return "unknown";
        }
        match (&self.before.effect, &self.after.effect) {
            (Effect::Unmatched, _) => "governs",
            (_, Effect::Unmatched) => "frees",
            (Effect::Refused, Effect::Permitted(_) | Effect::Observed(_)) => "permits",
            (_, Effect::Refused) => "refuses",
            (Effect::Permitted(one), Effect::Permitted(two)) if one != two => "credential",
            _ => "trial",
        }
    }

    /// On one line: who, what, what becomes of it and when.
    pub fn line(&self, report: &Report) -> String {
        let unknown = match &self.unknown[..] {
            [] => String::new(),
            clauses => format!("; depends on {}", clauses.join(", ")),
        };
        format!(
            "{}: {} ({}; {}{unknown})",
            self.who(),
            self.what(),
            self.change(),
            self.when(report)
        )
    }

    /// Who, in a text of bounded length.
    fn who(&self) -> String {
        let mut names: Vec<String> = self.callers.iter().map(super::Callers::text).collect();
        names.dedup();
        let more = names.len().saturating_sub(MAX_NAMES);
        names.truncate(MAX_NAMES);
        let names = names.join(", ");
        if more == 0 {
            names
        } else {
            format!("{names} and {more} more")
        }
    }

    fn what(&self) -> String {
        let (methods, except) = self.methods();
        let methods = match methods {
            Some(methods) => methods.join(", "),
            None if except.is_empty() => "any method".to_owned(),
            None => format!("any method except {}", except.join(", ")),
        };
        let ports: Vec<String> = self.ports().map(|port| port.to_string()).collect();
        let ports = if ports == ["443"] {
            String::new()
        } else {
            format!(", port {}", ports.join(", "))
        };
        format!(
            "{methods}  {}{ports}  {}",
            list(&self.hosts(), "any host"),
            list(&self.paths(), "any path")
        )
    }

    fn change(&self) -> String {
        format!("{} -> {}", self.before.text(), self.after.text())
    }

    /// When it applies: always, or in some of the intervals.
    fn when(&self, report: &Report) -> String {
        let times = self.times();
        if times == [(report.from, report.until)] {
            return "always".to_owned();
        }
        let ((from, until), count) = (times[0], times.len());
        let first = format!("from {from} until {until}");
        match count {
            1 if from == report.from => format!("until {until}"),
            1 if until == report.until => format!("from {from} on"),
            1 => first,
            _ => format!("{count} times, {} in all; first {first}", total(times)),
        }
    }
}

/// The length of all intervals, in hours and minutes.
fn total(times: &[Interval]) -> String {
    let seconds: i64 = times
        .iter()
        .map(|(from, until)| until.as_second() - from.as_second())
        .sum();
    match (seconds / 3600, seconds % 3600 / 60) {
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

fn list(described: &[Described], any: &str) -> String {
    if let [
        Described {
            pattern: None,
            except,
            ..
        },
    ] = described
        && except.is_empty()
    {
        return any.to_owned();
    }
    let texts: Vec<String> = described.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

impl Outcome {
    /// What becomes of a request, and by what.
    pub fn text(&self) -> String {
        let mut text = self.effect.as_str().to_owned();
        if let Some(policy) = &self.policy {
            let _ = write!(text, " by {policy}");
            if let Some(rule) = self.rule {
                let _ = write!(text, " allow[{rule}]");
            }
        }
        if let Some(sent) = self.effect.sent() {
            let credential = sent.credential.as_deref();
            let _ = match credential {
                Some(credential) => write!(text, " with {credential}"),
                None => write!(text, " without a credential"),
            };
            if sent.tunnelled {
                text.push_str(", in a tunnel that is not read");
            }
        }
        if let Some(reason) = &self.reason {
            let _ = write!(text, " ({})", reason.as_str());
        }
        text
    }

    fn json(&self) -> Value {
        let sent = self.effect.sent();
        json!({
            "effect": self.effect.as_str(),
            "policy": self.policy,
            "rule": self.rule,
            "credential": sent.and_then(|sent| sent.credential.as_deref()),
            "tunnelled": sent.is_some_and(|sent| sent.tunnelled),
            "reason": self.reason.map(super::DenyReasonKey::as_str),
        })
    }
}

impl Example {
    fn url(&self) -> String {
        let port = if self.port == 443 {
            String::new()
        } else {
            format!(":{}", self.port)
        };
        format!("https://{}{port}{}", self.host, self.path.path_and_query())
    }

    /// The arguments of `countersign explain` for it, but for the directory.
    pub fn arguments(&self) -> Vec<String> {
        let caller = &self.caller;
        let mut all = Vec::new();
        let mut add = |name: &str, value: String| all.extend([name.to_owned(), value]);
        match (
            &caller.namespace,
            &caller.service_account,
            &caller.spiffe_id,
        ) {
            (Some(namespace), Some(account), _) => add("--as", format!("{namespace}/{account}")),
            (_, _, Some(id)) => add("--as", id.to_string()),
            _ => add("--as", "nobody/nobody".to_owned()),
        }
        if let Some(cluster) = &caller.cluster {
            add("--cluster", cluster.to_string());
        }
        if let Some(pod) = &caller.kubernetes {
            pod.cron_job
                .iter()
                .for_each(|job| add("--cron-job", job.clone()));
            pod.labels
                .iter()
                .for_each(|(key, value)| add("--label", format!("{key}={value}")));
            pod.images
                .iter()
                .for_each(|image| add("--image", image.clone()));
        }
        add("--at", self.at.to_string());
        all.extend([self.method.to_string(), self.url()]);
        all
    }
}

impl Report {
    /// For a person to read.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.headline());
        for difference in &self.differences {
            let _ = writeln!(text, "\n{:<10} {}", difference.kind(), difference.who());
            let mut line = |name: &str, value: &str| {
                let _ = writeln!(text, "  {name:<8} {value}");
            };
            line("request", &difference.what());
            line("change", &difference.change());
            line("when", &difference.when(self));
            for clause in &difference.unknown {
                line("unknown", clause);
            }
            line(
                difference.example_name(),
                &difference.example.arguments().join(" "),
            );
        }
        for sentence in &self.incomplete {
            let _ = writeln!(text, "\nunknown    {sentence}");
        }
        text
    }

    fn headline(&self) -> String {
        let [old, new] = &self.revisions;
        let count = match self.differences.len() {
            0 => "no difference".to_owned(),
            1 => "1 difference".to_owned(),
            more => format!("{more} differences"),
        };
        format!(
            "{count} from revision {old} to {new} (times compared until {})",
            self.until
        )
    }

    /// For a comment on a change.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n", self.headline());
        if !self.differences.is_empty() {
            text.push_str("\n| kind | who | request | change | when | depends on | example |\n|---|---|---|---|---|---|---|\n");
        }
        for difference in &self.differences {
            let cells = [
                difference.kind().to_owned(),
                difference.who(),
                difference.what(),
                difference.change(),
                difference.when(self),
                difference.unknown.join("; "),
                format!("{} {}", difference.example.method, difference.example.url()),
            ];
            let cells = cells.map(|cell| cell.replace('|', "\\|").replace('*', "\\*"));
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        for sentence in &self.incomplete {
            let _ = writeln!(text, "\nNot compared: {sentence}.");
        }
        text
    }

    /// For a program to read.
    pub fn json(&self) -> Value {
        let differences: Vec<Value> = self
            .differences
            .iter()
            .map(|difference| difference.json(self))
            .collect();
        json!({
            "schema": SCHEMA,
            "old": self.revisions[0],
            "new": self.revisions[1],
            "from": self.from.to_string(),
            "until": self.until.to_string(),
            "differences": differences,
            "incomplete": self.incomplete,
        })
    }
}

/// One difference in words, for a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferenceRow {
    /// `permits`, `refuses`, `governs`, `frees`, `credential`, `trial` or `unknown`.
    pub kind: &'static str,
    /// Which workloads.
    pub who: String,
    /// Which requests.
    pub what: String,
    /// What becomes of them before and after.
    pub change: String,
    /// When.
    pub when: String,
    /// The clauses on which it depends whether there is a difference.
    pub unknown: Vec<String>,
    /// One of the requests.
    pub example: String,
}

impl Report {
    /// How many differences there are, between which revisions.
    pub fn summary(&self) -> String {
        self.headline()
    }

    /// All differences in words.
    pub fn rows(&self) -> impl Iterator<Item = DifferenceRow> {
        self.differences.iter().map(|difference| DifferenceRow {
            kind: difference.kind(),
            who: difference.who(),
            what: difference.what(),
            change: difference.change(),
            when: difference.when(self),
            unknown: difference.unknown.clone(),
            example: format!("{} {}", difference.example.method, difference.example.url()),
        })
    }
}

impl Difference {
    fn example_name(&self) -> &'static str {
        if self.confirmed { "example" } else { "such as" }
    }

    fn json(&self, report: &Report) -> Value {
        let (methods, except) = self.methods();
        let texts = |described: Vec<Described>| {
            let texts = described.iter().map(ToString::to_string);
            texts.collect::<Vec<String>>()
        };
        let callers = self.callers.iter().map(|callers| {
            let [before, after] = &callers.workloads;
            json!({ "before": before, "after": after })
        });
        let times = self.times().iter().take(MAX_TIMES);
        let times = times.map(|(from, until)| json!([from.to_string(), until.to_string()]));
        json!({
            "kind": self.kind(),
            "workloads": callers.collect::<Vec<Value>>(),
            "targets": self.targets,
            "hosts": texts(self.hosts()),
            "ports": self.ports().collect::<Vec<u16>>(),
            "methods": methods,
            "methodsExcept": except,
            "paths": texts(self.paths()),
            "always": self.times() == [(report.from, report.until)],
            "times": times.collect::<Vec<Value>>(),
            "timesCount": self.times().len(),
            "before": self.before.json(),
            "after": self.after.json(),
            "unknown": self.unknown,
            "example": {
                "confirmed": self.confirmed,
                "method": self.example.method.as_str(),
                "url": self.example.url(),
                "at": self.example.at.to_string(),
                "caller": caller_json(&self.example.caller),
                "arguments": self.example.arguments(),
            },
        })
    }
}

fn caller_json(caller: &CallerFacts) -> Value {
    let pod = caller.kubernetes.as_deref();
    json!({
        "cluster": caller.cluster.as_deref(),
        "namespace": caller.namespace.as_deref(),
        "serviceAccount": caller.service_account.as_deref(),
        "spiffeId": caller.spiffe_id.as_deref(),
        "cronJob": pod.and_then(|pod| pod.cron_job.as_deref()),
        "podLabels": pod.map(|pod| &pod.labels),
        "images": pod.map(|pod| &pod.images),
    })
}
