use std::{collections::BTreeSet, sync::Arc};

use countersign_config::policy::Mismatch;
use countersign_core::{metrics::Class, redact::needs_escape};
use countersign_identity::SignedClaims;
use http::{Method, uri::PathAndQuery};
use rstest::rstest;
use serde_json::Value;

use crate::observe::{CallerPart, MemoryLog, Outcome, Record, RejectedPart, fixture};

const DOCUMENTED: &str = include_str!("../../../../../../docs/decision-record.md");

/// Closes one record, filled in by `fill`, and gives back what the log holds.
fn recorded(outcome: Outcome, fill: impl FnOnce(&mut Record)) -> (MemoryLog, Value) {
    let (recorder, log) = fixture::recorder();
    let mut record = recorder.open();
    fill(&mut record);
    record.close(outcome);
    let mut records = log.all();
    assert_eq!(records.len(), 1);
    (log, records.remove(0))
}

const REFUSED: Outcome = Outcome::Refused {
    reason: "request_not_allowed",
    blame: "operator",
};

#[tokio::test(start_paused = true)]
async fn a_permitted_request_has_every_key_in_order() {
    let (recorder, _) = fixture::recorder();
    let mut record = recorder.open();
    fixture::fill(&mut record);
    record.nearest = None;
    record.detail = None;
    record.listener = None;
    record.original_destination = None;
    record.policy.as_mut().unwrap().would_refuse = None;
    record.upstream.as_mut().unwrap().api_error = None;
    insta::assert_snapshot!(line(record, Outcome::Permitted));
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_adds_detail_and_nearest_rule() {
    let (recorder, _) = fixture::recorder();
    let mut record = recorder.open();
    fixture::fill(&mut record);
    insta::assert_snapshot!(line(record, REFUSED));
}

#[tokio::test(start_paused = true)]
async fn a_connection_refused_before_its_request_has_nulls() {
    let (recorder, _) = fixture::recorder();
    let mut record = recorder.open();
    record.id = uuid::Uuid::nil();
    insta::assert_snapshot!(line(record, REFUSED));
}

/// The raw line, as a file would hold it: the parsed form has lost the order of its keys.
fn line(mut record: Record, outcome: Outcome) -> String {
    let closed = record.take_closed(outcome);
    let mut line = Vec::new();
    super::write_line(&closed, &mut line);
    String::from_utf8(line).unwrap()
}

#[test]
fn the_documentation_names_every_field_and_no_other() {
    let (_, full) = recorded(REFUSED, |record| {
        fixture::fill(record);
        record.refused_token = Some(Arc::new(refused_token("countersign-dev")));
        record.upstream.as_mut().unwrap().echoed = true;
        let credential = record.credential.as_mut().unwrap();
        credential.stale = true;
        credential.rejected = Some(Box::new(RejectedPart {
            generation: 6,
            api_error: Some("token_expired".into()),
        }));
    });
    // Only where no policy has it.
    let (_, refused) = recorded(REFUSED, |record| record.revision = Some("9f2c1a".into()));
    assert_eq!(refused["revision"], "9f2c1a");
    let mut present = BTreeSet::from(["revision".to_owned()]);
    collect("", &full, &mut present);
    let documented: BTreeSet<String> = DOCUMENTED
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(field, _)| field.to_owned())
        .collect();
    assert_eq!(present, documented);
}

/// A token that says this everywhere.
fn refused_token(text: &str) -> SignedClaims {
    let text = || Arc::<str>::from(text);
    SignedClaims {
        issuer: text(),
        subject: Some(text()),
        namespace: Some(text()),
        service_account: Some(text()),
        pod: Some(text()),
        audiences: vec![text(); 4],
        token_id: Some(text()),
    }
}

/// The names of all leaves, as `policy.name` or `nearest.mismatches[].what`.
fn collect(prefix: &str, value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let dot = if prefix.is_empty() { "" } else { "." };
                collect(&format!("{prefix}{dot}{key}"), value, names);
            }
        }
        Value::Array(items) => {
            for item in items {
                collect(&format!("{prefix}[]"), item, names);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            names.insert(prefix.to_owned());
        }
    }
}

#[test]
fn free_text_is_redacted_and_a_query_never_recorded() {
    let (_, json) = recorded(REFUSED, |record| {
        fixture::fill(record);
        record.detail = Some("upstream said xoxb-canary-canary-canary".into());
        let upstream = record.upstream.as_mut().unwrap();
        upstream.api_error = Some("bad token=canary".into());
        let path = "/services/T01234567/B01234567/canary?x=canary";
        record.target.as_mut().unwrap().path =
            Some(http::uri::PathAndQuery::from_static(path).into());
        record.nearest.as_mut().unwrap().mismatches[0].actual = "Bearer canary-canary".into();
    });
    assert!(!json.to_string().contains("canary"), "{json}");
    assert_eq!(json["upstream"]["api_error"], "bad [redacted]");
}

#[test]
fn nothing_in_a_line_can_disturb_a_terminal() {
    let hostile = "a\r\n\u{1b}[31m\u{7f}\u{9b}2J\u{2028}\u{202e}\u{feff}é\"\\";
    let (recorder, _) = fixture::recorder();
    let mut record = recorder.open();
    record.detail = Some(hostile.into());
    let line = line(record, REFUSED);
    let body = line.strip_suffix('\n').unwrap();
    assert!(!body.contains(needs_escape), "{body:?}");
    let json: Value = serde_json::from_str(body).unwrap();
    assert_eq!(json["detail"], hostile);
}

#[test]
fn a_line_for_lost_records_says_how_many_and_when() {
    let mut line = Vec::new();
    super::write_dropped(3, Class::Identified, fixture::clock().now(), &mut line);
    assert!(line.ends_with(b"}\n"));
    let json: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "schema": "countersign.dropped/v1", "count": 3, "class": "identified",
            "time": "2026-11-23T05:10:03.412Z"
        })
    );
}

/// The longest of everything, in the characters that grow most when they are escaped.
#[rstest]
#[case::plain("x")]
#[case::controls("\u{7}")]
#[case::wide("\u{2028}")]
#[case::many_bytes("\u{1f600}")]
fn a_record_is_cut_to_what_container_runtimes_keep_whole(
    #[case] what: &str,
    #[values(false, true)] refused: bool,
) {
    let (recorder, _) = fixture::recorder();
    let mut record = recorder.open();
    fixture::fill(&mut record);
    let long = what.repeat(3_000);
    record.caller = Some(Arc::new(CallerPart {
        proof: "service-account-token",
        issuer: Some(long.as_str().into()),
        subject: Some(long.as_str().into()),
        pod: Some(long.as_str().into()),
        kubernetes: None,
        token_id: Some(long.as_str().into()),
    }));
    if refused {
        record.caller = None;
        record.refused_token = Some(Arc::new(refused_token(&long)));
    }
    record.listener = Some(long.as_str().into());
    let path = format!("/{}", "x".repeat(6_000));
    record.target.as_mut().unwrap().path = Some(PathAndQuery::try_from(path).unwrap().into());
    let method = Method::from_bytes(&vec![b'M'; 60_000]).unwrap();
    record.target.as_mut().unwrap().method = Some(method);
    record.upstream.as_mut().unwrap().api_error = Some(long.clone());
    record.credential.as_mut().unwrap().rejected = Some(Box::new(RejectedPart {
        generation: 6,
        api_error: Some(long.clone()),
    }));
    record.policy.as_mut().unwrap().revision = long.as_str().into();
    let mismatch = Mismatch {
        what: "paths",
        expected: long.clone(),
        actual: long.clone(),
    };
    record.nearest.as_mut().unwrap().mismatches = vec![mismatch; 10];
    record.detail = Some(format!("{long} Do this.").into());
    let id = record.id.to_string();
    let line = line(record, REFUSED);
    assert!(line.len() <= super::LINE_BYTES, "{}", line.len());
    let json: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["id"], id);
    assert_eq!(json["workload"]["name"], "qa/nightly-dashboard");
    let path = json["target"]["path"].as_str().unwrap();
    assert!(path.starts_with("/xxx") && path.ends_with("[cut]"));
    // What to do about it comes last.
    let detail = json["detail"].as_str().unwrap();
    assert!(
        detail.contains("[cut]") && detail.ends_with("Do this."),
        "{detail}"
    );
    for (whole, expected) in [
        ("/outcome", "refused"),
        ("/reason", "request_not_allowed"),
        ("/blame", "operator"),
        ("/trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("/caller/client", "10.0.0.7:51234"),
        ("/workload/owner", "qa-platform@example.com"),
    ] {
        assert_eq!(json.pointer(whole).unwrap(), expected, "{whole}");
    }
}

#[test]
fn a_record_of_usual_size_is_whole() {
    let (recorder, _) = fixture::recorder();
    let mut record = recorder.open();
    fixture::fill(&mut record);
    let path = format!("/{}", "x".repeat(12_000));
    record.target.as_mut().unwrap().path = Some(PathAndQuery::try_from(&*path).unwrap().into());
    assert!(line(record, REFUSED).contains(&path));
}
