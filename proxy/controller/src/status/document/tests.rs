use super::*;

fn key(kind: Kind) -> Key {
    Key {
        kind,
        namespace: "qa".to_owned(),
        name: "one".to_owned(),
    }
}

fn verdict(kind: Kind, generation: i64, in_force: Option<i64>, accepted: bool) -> Verdict {
    let finding = Finding {
        severity: Severity::Error,
        code: "bad-method",
        path: "spec.allow[0].methods[1]".to_owned(),
        message: "`get` is no method".to_owned(),
        remedy: "write `GET`".to_owned(),
    };
    Verdict {
        key: key(kind),
        uid: "u".to_owned(),
        generation,
        in_force,
        accepted,
        findings: if accepted { Vec::new() } else { vec![finding] },
    }
}

fn document(verdict: &Verdict) -> Document {
    Document::new(verdict, &Report::default(), &BTreeMap::new())
}

fn now() -> Timestamp {
    "2026-11-30T06:00:00.5Z".parse().unwrap()
}

fn condition(status: &Value, name: &str) -> Value {
    let mut conditions = status["conditions"].as_array().unwrap().iter();
    let found = conditions.find(|condition| condition["type"] == name);
    found.cloned().unwrap_or_default()
}

#[test]
fn what_is_in_force_is_told() {
    let verdict = verdict(Kind::Workload, 3, Some(3), true);
    let (status, _) = document(&verdict).status(&Transitions::new(), now());
    assert_eq!(status["observedGeneration"], 3);
    assert_eq!(status["acceptedGeneration"], 3);
    for (name, reason) in [("Ready", "InForce"), ("Accepted", "Accepted")] {
        let condition = condition(&status, name);
        assert_eq!(condition["status"], "True");
        assert_eq!(condition["reason"], reason);
        assert_eq!(condition["message"], "Generation 3 is in force.");
        assert_eq!(condition["observedGeneration"], 3);
        assert_eq!(condition["lastTransitionTime"], "2026-11-30T06:00:00Z");
    }
    assert_eq!(status["access"], json!([]));
    assert_eq!(status["findings"], Value::Null);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let verdict = verdict(Kind::AccessPolicy, 3, Some(2), false);
    let (status, _) = document(&verdict).status(&Transitions::new(), now());
    let message = "spec.allow[0].methods[1]: bad-method: `get` is no method; write `GET`. Generation 2 is in force.";
    for name in ["Ready", "Accepted"] {
        let condition = condition(&status, name);
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!("False"), &json!("BadMethod"))
        );
        assert_eq!(condition["message"], message);
    }
    let finding = &status["findings"][0];
    assert_eq!(finding["path"], "spec.allow[0].methods[1]");
    assert_eq!(finding["code"], "bad-method");
}

#[test]
fn since_when_changes_with_the_status_alone() {
    let good = document(&verdict(Kind::Workload, 1, Some(1), true));
    let (_, before) = good.status(&Transitions::new(), now());
    let later = "2026-12-01T06:00:00Z".parse().unwrap();
    let newer = document(&verdict(Kind::Workload, 2, Some(2), true));
    let (status, _) = newer.status(&before, later);
    assert_eq!(
        condition(&status, "Ready")["lastTransitionTime"],
        "2026-11-30T06:00:00Z"
    );
    let bad = document(&verdict(Kind::Workload, 3, Some(2), false));
    let (status, _) = bad.status(&before, later);
    assert_eq!(
        condition(&status, "Ready")["lastTransitionTime"],
        "2026-12-01T06:00:00Z"
    );
}

#[test]
fn what_stands_there_is_known_again() {
    let good = document(&verdict(Kind::Workload, 1, Some(1), true));
    let (mut status, _) = good.status(&Transitions::new(), now());
    assert!(good.stands_in(&status));
    // Another manager's.
    status["lastUsedTime"] = json!("2026-11-30T06:00:00Z");
    assert!(good.stands_in(&status));
    let mut changed = status.clone();
    changed["conditions"][0]["message"] = json!("all is well");
    assert!(!good.stands_in(&changed));
    let mut left = status.clone();
    left["inForce"] = json!({ "generation": 1, "spec": {} });
    assert!(!good.stands_in(&left), "what is no longer so must go");
    assert!(!good.stands_in(&Value::Null));
    let newer = document(&verdict(Kind::Workload, 2, Some(2), true));
    assert!(!newer.stands_in(&status));
    assert_ne!(newer.digest(), good.digest());
}

#[test]
fn a_policy_is_as_ready_as_its_credentials() {
    let verdict = verdict(Kind::AccessPolicy, 1, Some(1), true);
    let mut report = Report::default();
    let names = ["qa/bot", "qa/app"].map(str::to_owned).to_vec();
    report.credentials.insert(key(Kind::AccessPolicy), names);
    let standing = |name: &str, ready, message: &str| CredentialStanding {
        name: name.to_owned(),
        ready,
        reason: if ready == Some(false) {
            "Failed"
        } else {
            "Good"
        },
        message: message.to_owned(),
    };
    let mut credentials = by_name([
        standing("qa/bot", Some(true), "It has a value."),
        standing("qa/app", Some(false), "the Secret is not there"),
    ]);
    let document = Document::new(&verdict, &report, &credentials);
    assert!(!document.is_good());
    let (status, _) = document.status(&Transitions::new(), now());
    for name in ["CredentialReady", "Ready"] {
        let condition = condition(&status, name);
        assert_eq!(condition["status"], "False", "{name}");
        assert_eq!(condition["message"], "qa/app: the Secret is not there");
    }
    assert_eq!(condition(&status, "Accepted")["status"], "True");
    credentials.remove("qa/app");
    let (status, _) =
        Document::new(&verdict, &report, &credentials).status(&Transitions::new(), now());
    assert_eq!(condition(&status, "CredentialReady")["status"], "Unknown");
    assert_eq!(condition(&status, "Ready")["status"], "True");
}

fn by_name<const N: usize>(all: [CredentialStanding; N]) -> BTreeMap<String, CredentialStanding> {
    let named = all.into_iter();
    named.map(|one| (one.name.clone(), one)).collect()
}

#[test]
fn codes_are_reasons_of_kubernetes() {
    assert_eq!(camel_case("bad-method"), "BadMethod");
    assert_eq!(camel_case("not-accepted"), "NotAccepted");
}
