//! `countersign triage` on a synthetic month, whose records are those of a real gateway. What it says of each incident is
//! tested in `proxy/insight/tests/month.rs`.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use countersign_core::reason::Reason;
use countersign_insight::triage::is_known;
use countersign_tests::{
    environment::DASHBOARD,
    fake::TokenRequest,
    month::{GATEWAYS, Month},
    process,
};
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use crate::harness::{HOST, TestBed, get};

/// Writes the logs of a month, one gateway's rotated, as they would lie on a machine.
fn write(month: &Month, folder: &Path) {
    for (number, name) in GATEWAYS.iter().enumerate() {
        let log = month.log(number);
        let middle = log[..log.len() / 2].rfind('\n').expect("there are lines") + 1;
        let path = |suffix: &str| folder.join(format!("{name}.jsonl{suffix}"));
        fs::write(path(".1"), &log[..middle]).expect("a folder of the test");
        fs::write(path(""), &log[middle..]).expect("a folder of the test");
    }
}

#[test]
fn the_command_answers_for_one_workload_and_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    write(&Month::new(7), folder.path());
    let run = |more: &[&str]| {
        let mut command = Command::new(process::binary().unwrap());
        command
            .arg("triage")
            .arg(folder.path())
            .args(["--time-zone", "UTC"])
            .args(more);
        let done = command.output().unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        (
            done.status.code(),
            text,
            String::from_utf8(done.stderr).unwrap(),
        )
    };
    let (code, text, _) = run(&["--workload", "qa/nightly"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("qa/slack-bot lacks chat:write (has channels:read)"),
        "{text}"
    );
    assert!(text.contains("your access, not your code"), "{text}");
    assert!(!text.contains("qa/report "), "{text}");
    let (code, text, _) = run(&[
        "--workload",
        "hr/birthdays",
        "--since",
        "2026-10-28T00:00:00Z",
    ]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("Nothing is wrong at the identity layer"),
        "{text}"
    );
    let (code, text, _) = run(&["--output", "json", "--workload", "qa/report"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &json["schema"]),
        (Some(1), &"countersign.triage/v1".into())
    );
    let (code, text, _) = run(&["-o", "yaml", "--workload", "qa/report"]);
    assert_eq!(code, Some(1));
    let yaml: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(yaml, json);
    let (code, text, _) = run(&["-o", "markdown"]);
    assert!(code == Some(1) && text.starts_with("# Triage"), "{text}");
    let (code, _, told) = run(&["--since", "soon"]);
    assert!(code == Some(2) && told.contains("how long ago"), "{told}");
    let (code, _, told) = run(&["no-such-file"]);
    assert!(
        code == Some(2) && told.contains("no-such-file cannot be read"),
        "{told}"
    );
}

#[test]
fn triage_knows_what_every_reason_means() {
    for reason in Reason::ALL {
        let code = reason.facts().code;
        assert!(
            is_known(code),
            "say in proxy/insight/src/triage/causes.rs what {code} means"
        );
    }
}

/// The names and types of a record's fields; what is `null` may have any type.
fn shape(value: &Value, at: &str, into: &mut BTreeMap<String, &'static str>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                shape(member, &format!("{at}.{name}"), into);
            }
        }
        Value::Array(items) => {
            for item in items {
                shape(item, &format!("{at}[]"), into);
            }
        }
        Value::Null => {
            into.insert(at.to_owned(), "null");
        }
        Value::Bool(_) => {
            into.insert(at.to_owned(), "boolean");
        }
        Value::Number(_) => {
            into.insert(at.to_owned(), "number");
        }
        Value::String(_) => {
            into.insert(at.to_owned(), "text");
        }
    }
}

fn is_alike(made: &Value, real: &Value) {
    let (mut one, mut other) = (BTreeMap::new(), BTreeMap::new());
    shape(made, "", &mut one);
    shape(real, "", &mut other);
    let names = |shape: &BTreeMap<String, _>| shape.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&one), names(&other), "made {made:#}\nreal {real:#}");
    for (name, kind) in &one {
        let real = other[name];
        assert!(
            *kind == real || *kind == "null" || real == "null",
            "{name} is {kind} and not {real}"
        );
    }
}

/// What the month is made of is what a real gateway writes: each kind of record, field by field.
#[tokio::test]
async fn the_month_s_records_are_those_of_a_real_gateway() -> anyhow::Result<()> {
    let month = Month::new(7);
    let sample = |kind: &str| month.samples[kind].value();
    let mut bed = TestBed::start().await?;
    let answer = bed.client().send(get("/some")).await?;
    assert_eq!(answer.status, StatusCode::OK);
    is_alike(&sample("permitted"), &bed.recorded("permitted").await?);
    let denied = Request::delete(format!("https://{HOST}/some")).body(Full::default())?;
    bed.client().send(denied).await.ok();
    is_alike(
        &sample("request"),
        &bed.recorded("request_not_allowed").await?,
    );
    let mut request = TokenRequest::new("qa", DASHBOARD);
    request.audiences = vec!["vault".to_owned()];
    let other = bed.env.issuer.mint(&request);
    bed.client_with(&other).send(get("/some")).await.ok();
    is_alike(
        &sample("identity"),
        &bed.recorded("identity_audience").await?,
    );
    bed.end_to_end_client().send(get("/some")).await.ok();
    is_alike(&sample("tls"), &bed.recorded("own_certificate").await?);
    Ok(())
}
