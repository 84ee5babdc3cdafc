use rstest::rstest;

use super::*;

const SPIFFE_ID: &str = "spiffe://prod.example.com/ns/qa/sa/nightly-dashboard";
const IMAGE: &str = "ghcr.io/acme/dashboard@sha256:9f2c";

fn full() -> Arc<Workload> {
    workload(
        "nightly-dashboard",
        vec![
            Selector {
                cron_job: Some("nightly-dashboard".to_owned()),
                pod_labels: BTreeMap::from([("team".to_owned(), "qa".to_owned())]),
                images: vec![IMAGE.to_owned(), "sidecar@sha256:00".to_owned()],
                ..account("nightly-dashboard")
            },
            Selector {
                cluster: None,
                namespace: None,
                service_account: None,
                spiffe_id: Some(SPIFFE_ID.to_owned()),
                ..account("")
            },
        ],
    )
}

fn pod() -> PodFacts {
    PodFacts {
        labels: BTreeMap::from([("team".to_owned(), "qa".to_owned())]),
        images: vec![IMAGE.to_owned()],
        cron_job: Some("nightly-dashboard".to_owned()),
        ..PodFacts::default()
    }
}

fn known(change: impl FnOnce(&mut CallerFacts, &mut PodFacts)) -> bool {
    let who = full();
    let policies = set(slice::from_ref(&who), vec![posts_to_slack(&who)]);
    let mut facts = caller("nightly-dashboard");
    let mut kubernetes = pod();
    change(&mut facts, &mut kubernetes);
    facts.kubernetes = Some(Arc::new(kubernetes));
    !policies.recognise(&facts).is_unknown()
}

#[test]
fn every_part_of_a_selector_must_match() {
    assert!(known(|_, _| {}));
    assert!(known(|_, pod| pod
        .images
        .push("sidecar@sha256:00".to_owned())));
    assert!(!known(|facts, _| facts.cluster = Some("prod-us".into())));
    assert!(!known(|facts, _| facts.cluster = None));
    assert!(!known(|facts, _| facts.namespace = Some("qa2".into())));
    assert!(!known(
        |facts, _| facts.service_account = Some("nightly.dashboard".into())
    ));
    assert!(!known(
        |facts, _| facts.service_account = Some("Nightly-Dashboard".into())
    ));
    assert!(!known(|_, pod| pod.cron_job = None));
    assert!(!known(
        |_, pod| pod.cron_job = Some("nightly-dashboard-2".to_owned())
    ));
    assert!(!known(|_, pod| pod.labels.clear()));
    assert!(!known(|_, pod| pod.images.clear()));
    assert!(!known(|_, pod| pod
        .images
        .push("evil@sha256:11".to_owned())));
}

#[test]
fn any_selector_is_enough() {
    let who = full();
    let policies = set(slice::from_ref(&who), vec![posts_to_slack(&who)]);
    let by_svid = |id: &str| CallerFacts {
        spiffe_id: Some(id.into()),
        ..CallerFacts::default()
    };
    assert!(!policies.recognise(&by_svid(SPIFFE_ID)).is_unknown());
    assert!(
        policies
            .recognise(&by_svid(&format!("{SPIFFE_ID}x")))
            .is_unknown()
    );
    assert!(
        policies
            .recognise(&by_svid(&SPIFFE_ID.replace("qa", "QA")))
            .is_unknown()
    );
    assert!(policies.recognise(&CallerFacts::default()).is_unknown());
}

#[test]
fn a_caller_may_be_several_workloads() {
    let both = ["b", "a"].map(|name| workload(name, vec![account("shared")]));
    let only_b = policy("for-b", &both[0], &slack(), vec![rule(&[], &[], &[])]);
    let policies = set(&both, vec![only_b]);
    let facts = caller("shared");
    let who = policies.recognise(&facts);
    let names: Vec<_> = policies.workloads_of(&who).map(|w| w.name.name()).collect();
    assert_eq!(names, ["a", "b"]);
    let decision = decide(&policies, &facts, "GET slack.com/api/x", MORNING);
    let Decision::Permit(grant) = decision else {
        panic!("{decision:?}");
    };
    assert_eq!(grant.workload.name.name(), "b");
}

#[test]
fn numbers_of_another_revision_are_not_believed() {
    let [a, b] = ["a", "b"].map(|name| workload(name, vec![account(name)]));
    let before = set(&[a.clone(), b.clone()], vec![posts_to_slack(&a)]);
    let after = set(slice::from_ref(&b), vec![posts_to_slack(&b)]);
    // `a` was number 0 before; number 0 is `b` now, which may post.
    let stale = before.recognise(&caller("a"));
    assert!(stale.is_of(&before) && !stale.is_of(&after));
    let request = Request::new("POST slack.com/api/chat.postMessage");
    let decision = after.decide(&stale, &caller("a"), &request.facts(), at(MORNING));
    assert_eq!(told(&decision), "workload_unknown");
    let host = Host::parse("wss.slack.com").expect("a host");
    let answer = after.interception(&stale, &host, 443);
    assert!(matches!(answer, Interception::Refuse(_)), "{answer:?}");
    // Loading the same text again also makes another revision.
    let again = before.recognise(&caller("a"));
    let reloaded = set(&[a.clone(), b], vec![posts_to_slack(&a)]);
    assert!(!again.is_of(&reloaded));
    let decision = reloaded.decide(&again, &caller("a"), &request.facts(), at(MORNING));
    assert_eq!(told(&decision), "dashboard-posts-to-slack 0 bot");
}

#[rstest]
#[case::kubernetes_not_asked(
    caller("nightly-dashboard"),
    "cronJob: expected nightly-dashboard, got unknown: this needs the Kubernetes API, which was not queried"
)]
#[case::service_account_forgotten(
    CallerFacts { kubernetes: Some(Arc::new(pod())), ..caller("default") },
    "serviceAccount: expected nightly-dashboard, got default"
)]
#[case::another_namespace(
    CallerFacts {
        namespace: Some("release".into()),
        kubernetes: Some(Arc::new(pod())),
        ..caller("nightly-dashboard")
    },
    "namespace: expected qa, got release"
)]
fn for_an_unknown_caller_the_nearest_selector_is_named(
    #[case] facts: CallerFacts,
    #[case] expected: &str,
) {
    let who = full();
    let policies = set(slice::from_ref(&who), vec![posts_to_slack(&who)]);
    let decision = decide(&policies, &facts, "GET slack.com/api/x", MORNING);
    let Decision::Deny(denial) = decision else {
        panic!("{decision:?}");
    };
    assert_eq!(denial.reason, DenyReason::WorkloadUnknown);
    let sentence = denial.sentence_for_operator();
    assert!(
        sentence.contains("Workload qa/nightly-dashboard, match[0]"),
        "{sentence}"
    );
    let nearest = denial.nearest_selector.expect("a near selector");
    assert_eq!(nearest.mismatches[0].to_string(), expected);
}

#[test]
fn a_stranger_is_near_to_nothing() {
    let policies = nightly();
    let stranger = CallerFacts {
        namespace: Some("elsewhere".into()),
        ..caller("stranger")
    };
    let decision = decide(&policies, &stranger, "GET slack.com/api/x", MORNING);
    let Decision::Deny(denial) = decision else {
        panic!("{decision:?}");
    };
    assert!(denial.nearest_selector.is_none());
}

/// A certificate alone proves nothing about service accounts: nobody is told to change one.
#[rstest]
#[case::slip(
    "spiffe://prod.example.com/ns/qa/sa/nighty",
    Some(
        "spiffeId: expected spiffe://prod.example.com/ns/qa/sa/nightly, got spiffe://prod.example.com/ns/qa/sa/nighty"
    )
)]
#[case::another_trust_domain("spiffe://prod.example.org/ns/qa/sa/nightly", None)]
fn an_unknown_svid_is_told_of_its_spiffe_id(#[case] id: &str, #[case] mismatch: Option<&str>) {
    let selector = |id: &str| Selector {
        cluster: None,
        namespace: None,
        service_account: None,
        spiffe_id: Some(id.to_owned()),
        ..account("unused")
    };
    let who = [
        workload(
            "other",
            vec![selector("spiffe://prod.example.com/ns/release/sa/bot")],
        ),
        workload(
            "nightly",
            vec![
                account("x"),
                selector("spiffe://prod.example.com/ns/qa/sa/nightly"),
            ],
        ),
    ];
    let policies = set(&who, vec![posts_to_slack(&who[1])]);
    let facts = CallerFacts {
        spiffe_id: Some(id.into()),
        ..CallerFacts::default()
    };
    let decision = decide(&policies, &facts, "GET slack.com/api/x", MORNING);
    let Decision::Deny(denial) = decision else {
        panic!("{decision:?}");
    };
    let sentence = denial.sentence_for_operator();
    assert!(sentence.contains(&format!("SPIFFE ID {id}")), "{sentence}");
    assert!(
        sentence.contains("has this `spiffeId`") && !sentence.contains("service account"),
        "{sentence}"
    );
    match mismatch {
        Some(mismatch) => assert!(
            sentence.contains(&format!("Workload qa/nightly, match[1]: {mismatch}")),
            "{sentence}"
        ),
        None => assert!(denial.nearest_selector.is_none(), "{sentence}"),
    }
}

#[test]
fn a_governed_host_is_one_at_every_port() {
    let policies = nightly();
    let who = policies.recognise(&caller("nightly-dashboard"));
    for host in ["slack.com", "wss-primary.slack.com"] {
        let host = Host::parse(host).expect("a host");
        let answer = policies.interception(&who, &host, 80);
        assert!(matches!(answer, Interception::OtherPort(_)), "{answer:?}");
        assert!(policies.target(&host, 80).is_none());
        assert!(policies.governing_target(&host).is_some());
    }
}
