//! `docs/metrics.md` lists each metric with its type, its unit, its labels and its help, and no other.

use std::collections::{BTreeMap, BTreeSet};

use countersign_types::ResourceName;

use super::*;

const PAGE: &str = include_str!("../../../../../docs/metrics.md");

/// Metrics in which everything has happened.
fn filled() -> Metrics {
    let metrics = Metrics::new();
    let (at, name) = (Timestamp::UNIX_EPOCH, ResourceName::cluster_wide("slack"));
    let text: Arc<str> = "a".into();
    metrics.started(at);
    metrics.reloaded("aaaa", at);
    metrics.reload_failed();
    metrics.certificates([("listener/proxy", at)].into_iter());
    metrics.workload_api(Path::new("/run/spire.sock"), true);
    metrics.credential_fetched(&name, "ok");
    metrics.probed(&name, "works");
    metrics.credentials([CredentialStanding {
        name: "slack",
        state: "good",
        ends: Some(0),
    }]);
    drop((metrics.connection(&text), metrics.connection_of(true)));
    metrics.connection_shed(true, "source_full");
    metrics.decision_sink(&text, true);
    metrics.watch_memory(|| [1, 1, 1]);
    metrics.memory_refused("workload", "memory_short");
    metrics.step(Step::Decide, Duration::ZERO);
    metrics.finished(&Finished {
        outcome: "permitted",
        reason: "permitted",
        target: Some(&name),
        policy: Some(&name),
        would_refuse: Some("request_not_allowed"),
        overhead: Duration::ZERO,
        credential: Some((&name, 0)),
        upstream: Some((Some(200), true)),
        total: Duration::ZERO,
        bytes: (0, 0),
        trace: None,
    });
    metrics
}

/// A family as a row of the page.
#[derive(Default)]
struct Family {
    kind: String,
    unit: String,
    help: String,
    labels: BTreeSet<String>,
}

/// The page's table of what a gateway shows.
fn table(text: &str) -> String {
    let mut families = BTreeMap::<String, Family>::new();
    for line in text.lines() {
        let about = line
            .strip_prefix("# ")
            .and_then(|about| about.split_once(' '));
        if let Some((what, about)) = about {
            let (name, said) = about.split_once(' ').unwrap_or((about, ""));
            let family = families.entry(name.to_owned()).or_default();
            match what {
                "HELP" => said.trim_end_matches('.').clone_into(&mut family.help),
                "TYPE" => said.clone_into(&mut family.kind),
                _ => said.clone_into(&mut family.unit),
            }
        } else if let Some((series, _)) = line.split_once(['{', ' ']) {
            let known = |name: &&str| families.contains_key(*name);
            let suffixes = ["_total", "_bucket", "_sum", "_count"].iter();
            let mut bases = suffixes.filter_map(|suffix| series.strip_suffix(suffix));
            let Some(base) = bases.find(known).or_else(|| Some(series).filter(known)) else {
                continue;
            };
            let (base, inside) = (base.to_owned(), line.split_once('{'));
            let labels = inside.map_or("", |(_, rest)| {
                rest.split_once("} ").map_or("", |(labels, _)| labels)
            });
            let names = labels.split("\",").filter_map(|pair| pair.split_once('='));
            let names = names
                .map(|(name, _)| name.to_owned())
                .filter(|name| name != "le");
            families.entry(base).or_default().labels.extend(names);
        }
    }
    let mut table =
        String::from("| metric | type | unit | labels | what |\n|---|---|---|---|---|\n");
    for (name, family) in families.iter().filter(|(name, _)| *name != "EOF") {
        let suffix = if family.kind == "counter" {
            "_total"
        } else {
            ""
        };
        let labels: Vec<_> = family
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let (kind, unit, labels, help) =
            (&family.kind, &family.unit, labels.join(", "), &family.help);
        let row = format!("| `{name}{suffix}` | {kind} | {unit} | {labels} | {help} |\n");
        table.push_str(&row);
    }
    table
}

#[test]
fn the_page_lists_what_a_gateway_shows_and_nothing_else() {
    let table = table(&filled().encode().unwrap());
    assert!(
        PAGE.contains(&format!("## A gateway\n\n{table}\n")),
        "docs/metrics.md must have under `## A gateway`:\n\n{table}"
    );
}
