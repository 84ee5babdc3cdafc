//! What the gateway says of an attack: its metrics and its records.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

/// The labels that are told.
const TOLD: [&str; 4] = ["outcome", "class", "reason", "why"];

/// Counters that tell of something shed, dropped or refused, added up by [`TOLD`].
pub(super) fn shed(metrics: &str) -> Vec<String> {
    let words = ["shed", "dropped", "refused", "summarized", "suppressed"];
    let mut sums = BTreeMap::<String, u64>::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let value: u64 = value.parse().unwrap_or_default();
        if value == 0 || !words.iter().any(|word| series.contains(word)) {
            continue;
        }
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let whose = if labels.contains("bench/honest") {
            " of honest workloads"
        } else {
            ""
        };
        let told = labels
            .trim_end_matches('}')
            .split(',')
            .filter_map(|label| label.split_once('='))
            .filter(|(name, _)| TOLD.contains(name))
            .map(|(_, value)| value.trim_matches('"'));
        let name = name
            .trim_start_matches("countersign_")
            .trim_end_matches("_total");
        let key = std::iter::once(name)
            .chain(told)
            .collect::<Vec<_>>()
            .join(" ");
        *sums.entry(key + whose).or_default() += value;
    }
    let tell = |(key, sum): (String, u64)| format!("{sum} {key}");
    sums.into_iter().map(tell).collect()
}

/// Permitted requests of honest workloads in a file.
pub(super) fn honest_records(path: &Path) -> u64 {
    let text = fs::read(path).unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n');
    let honest = lines
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|record| record["outcome"] == "permitted")
        .filter(|record| {
            let workload = record["workload"]["name"].as_str().unwrap_or_default();
            workload.starts_with("bench/honest")
        });
    u64::try_from(honest.count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_shed_is_added_up_by_reason() {
        let metrics = "# HELP x shed\n\
            countersign_requests_total{outcome=\"refused\",reason=\"a\",policy=\"bench/attacker\"} 2\n\
            countersign_requests_total{outcome=\"refused\",reason=\"a\",policy=\"\"} 3\n\
            countersign_requests_total{outcome=\"refused\",reason=\"a\",policy=\"bench/honest1\"} 4\n\
            countersign_requests_total{outcome=\"permitted\",reason=\"permitted\",policy=\"\"} 5\n\
            countersign_shed_total{reason=\"b\"} 0\n\
            countersign_decisions_dropped_total 7\n";
        let expected = [
            "7 decisions_dropped",
            "5 requests refused a",
            "4 requests refused a of honest workloads",
        ];
        assert_eq!(super::shed(metrics), expected);
    }
}
