//! The same schedules as Kubernetes: its parser's results are in a table (see `tests/cron/README.md`).

use std::collections::BTreeSet;

use super::*;

const TABLE: &str = include_str!("../../../tests/cron/table.tsv");

/// Zones of the table whose clock changes by no whole hour, or at no full hour. Kubernetes' parser moves by hours
/// there, misses full hours until the next midnight and fires at minutes of the wrong hour; here each expression
/// fires when the clock shows it.
const BY_HALF_AN_HOUR: [&str; 4] = [
    "America/Caracas",
    "America/St_Johns",
    "Asia/Pyongyang",
    "Australia/Lord_Howe",
];

/// The columns of each row of a kind: expression, zone, from, result.
fn rows(kind: &str) -> impl Iterator<Item = [String; 4]> {
    TABLE.lines().filter_map(move |line| {
        let cells: Vec<String> = line
            .split('\t')
            .map(|cell| cell.replace("\\t", "\t"))
            .collect();
        let [found, rest @ ..] = &cells[..] else {
            panic!("an empty line");
        };
        (found == kind).then(|| rest.to_vec().try_into().expect("five columns"))
    })
}

#[test]
fn what_kubernetes_refuses_is_refused_and_nothing_else() {
    let mut count = 0;
    for [cron, _, _, verdict] in rows("parse") {
        let parsed = Cron::parse(&cron);
        assert_eq!(parsed.is_ok(), verdict == "valid", "{cron:?}: {parsed:?}");
        count += 1;
    }
    assert!(count > 100, "{count} rows");
}

#[test]
fn windows_open_when_kubernetes_starts_a_job() {
    let mut wrong = Vec::new();
    let mut excepted = BTreeSet::new();
    let mut count = 0;
    for [cron, zone, from, runs] in rows("runs") {
        let parsed = Cron::parse(&cron).expect("a schedule");
        let zone_name = zone.as_str();
        let zone = super::super::zone(zone_name).expect("a zone");
        let mut at: Timestamp = from.parse().expect("a time");
        for run in runs.split(' ') {
            let next = parsed.next(at, &zone);
            let expected = (run != "never").then(|| run.parse().expect("a time"));
            if next != expected && BY_HALF_AN_HOUR.contains(&zone_name) {
                excepted.insert(zone_name.to_owned());
                break;
            }
            if next != expected {
                wrong.push(format!(
                    "{cron} in {zone_name} after {at}: {next:?}, Kubernetes: {run}"
                ));
                break;
            }
            count += 1;
            let Some(next) = next else { break };
            at = next;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(excepted.iter().eq(BY_HALF_AN_HOUR), "{excepted:?}");
    assert!(count > 3_000, "{count} runs");
}
