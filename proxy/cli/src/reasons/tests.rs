use std::collections::HashSet;

use serde_json::Value;

use super::*;

/// The page in the repository is what the command prints.
#[test]
fn the_page_of_reasons_is_what_is_generated() {
    let written = include_str!("../../../../docs/reasons.md");
    let made = page::page(Reason::ALL);
    let differs = written
        .lines()
        .zip(made.lines())
        .position(|(written, made)| written != made);
    assert!(
        written == made,
        "docs/reasons.md is not what is generated, from line {} on; run `just reference`",
        differs.unwrap_or_else(|| written.lines().count().min(made.lines().count())) + 1
    );
}

#[test]
fn each_reason_has_an_example_that_says_the_same() {
    let mut told = HashSet::new();
    for line in EXAMPLES.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let code = record["reason"].as_str().unwrap();
        assert!(told.insert(code.to_owned()), "{code} is there twice");
        let reason = find(code).unwrap();
        assert_eq!(record["blame"], reason.facts().blame.as_str(), "{code}");
        assert!(record["detail"].is_string(), "{code} has no detail");
    }
    // Those that the tests of whole gateways do not provoke.
    let without = ["internal", "identity_throttled"];
    let codes = Reason::ALL.iter().map(|reason| reason.facts().code);
    let missing: Vec<_> = codes
        .filter(|code| !told.contains(*code) && !without.contains(code))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn a_code_with_a_slip_is_recognised() {
    let error = chosen(&["identity_expird".to_owned()]).unwrap_err();
    assert!(
        error.to_string().contains("did you mean identity_expired?"),
        "{error}"
    );
    let error = chosen(&["zzz".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("lists all"), "{error}");
}
