//! Why jobs failed, read back from a synthetic month of three gateways: twelve incidents, and four things that look
//! like one of access and are none.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "shared with the end-to-end tests"
)]
#[path = "../../../tests/src/month/mod.rs"]
mod month;

use std::{fs, path::Path};

use countersign_insight::{
    reader::Reader,
    triage::{self, Finding, Options, Report},
};
use jiff::SignedDuration;

use self::month::{DECOYS, GATEWAYS, INCIDENTS, Incident, Month, at};

/// Writes the logs of a month, each rotated once, as they would lie on a machine.
fn write(month: &Month, folder: &Path) {
    for (number, name) in GATEWAYS.iter().enumerate() {
        let log = month.log(number);
        let middle = log[..log.len() / 2].rfind('\n').expect("there are lines") + 1;
        let path = |suffix: &str| folder.join(format!("{name}.jsonl{suffix}"));
        fs::write(path(".1"), &log[..middle]).unwrap();
        fs::write(path(""), &log[middle..]).unwrap();
    }
}

fn report_of(month: &Month) -> Report {
    let folder = tempfile::tempdir().unwrap();
    write(month, folder.path());
    let mut reader = Reader::open(&[folder.path().to_owned()]).unwrap();
    triage::triage(&mut reader, Options::default())
}

/// The blame's word in JSON.
fn blame(finding: &Finding) -> String {
    let blame = serde_json::to_value(finding.blame).unwrap();
    blame.as_str().unwrap().to_owned()
}

fn names(finding: &Finding, wanted: &str) -> bool {
    let mut affected = finding.affected.iter();
    finding.what.contains(wanted) || affected.any(|one| one.name == wanted)
}

/// The finding of an incident, which there must be once.
fn found<'r>(report: &'r Report, incident: &Incident) -> &'r Finding {
    let (day, hour, minute) = incident.begins;
    let begins = at(day, hour, minute);
    // A job that runs once a day meets what began the day before.
    let soon = begins + SignedDuration::from_hours(30);
    let about = |finding: &&Finding| {
        finding.kind == incident.kind
            && names(finding, incident.names)
            && finding.first >= begins - SignedDuration::from_mins(15)
            && finding.first <= soon
    };
    let all: Vec<_> = report.findings.iter().filter(about).collect();
    assert_eq!(all.len(), 1, "{}: {:#?}", incident.name, report.findings);
    all[0]
}

#[test]
fn twelve_incidents_have_twelve_right_verdicts_and_no_decoy_is_blamed_on_access() {
    for seed in [7, 2026] {
        let month = Month::new(seed);
        let report = report_of(&month);
        println!("{}", triage::table(&report, &triage::Style::default()));
        assert!(
            report
                .notes
                .iter()
                .all(|note| note.contains("brief") || note.contains("went back")),
            "{:?}",
            report.notes
        );
        for incident in &INCIDENTS {
            let finding = found(&report, incident);
            let name = incident.name;
            assert_eq!(blame(finding), incident.blame, "{name}: {finding:#?}");
            assert!(
                finding.action.contains(incident.remedy),
                "{name}: {finding:#?}"
            );
            assert!(
                !finding.ask.is_empty() && !finding.evidence.is_empty(),
                "{name}: {finding:#?}"
            );
            if !incident.change.is_empty() {
                let change = finding.changes.first().map(|change| change.kind);
                assert_eq!(change, Some(incident.change), "{name}: {finding:#?}");
            }
        }
        for decoy in &DECOYS {
            let mut accused = report.findings.iter();
            let accused = accused.find(|one| {
                one.blame.is_access() && one.affected.iter().all(|it| it.name == decoy.workload)
            });
            assert!(accused.is_none(), "{}: {accused:#?}", decoy.name);
        }
        // No incident is told twice, and nothing is made up: what remains are the decoys that failed.
        let unexplained = report.findings.len() - INCIDENTS.len();
        assert!(unexplained <= DECOYS.len(), "{:#?}", report.findings);
    }
}

#[test]
fn a_decoy_alone_is_no_finding_about_access() {
    for decoy in &DECOYS {
        let month = Month::with(11, |name| name == decoy.name);
        let report = report_of(&month);
        let accused = report.findings.iter().find(|one| one.blame.is_access());
        assert!(accused.is_none(), "{}: {accused:#?}", decoy.name);
        let mut all = report.findings.iter().chain(&report.api_errors);
        assert!(
            all.any(|one| names(one, decoy.workload)),
            "{}: {report:#?}",
            decoy.name
        );
    }
    let month = Month::with(11, |name| name == "channel archived");
    let report = report_of(&month);
    assert_eq!(
        report.verdict,
        "Nothing is wrong at the identity layer: the app got these API errors"
    );
    assert!(
        report.api_errors[0].what.contains("channel_not_found"),
        "{report:#?}"
    );
    let quiet = report_of(&Month::with(11, |_| false));
    assert_eq!(
        quiet.verdict,
        "Nothing is wrong: every request went through"
    );
}
