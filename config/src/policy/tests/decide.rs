use rstest::rstest;

use super::*;

const POSTS: &str = "dashboard-posts-to-slack";

#[rstest]
#[case::another_host(
    "POST slack.com/upload/v1/a",
    "host files.slack.com, paths /upload/v1/**"
)]
#[case::near("GET slack.com/apis/x", "paths /api/**")]
fn the_nearest_route_is_named(#[case] request: &str, #[case] expected: &str) {
    let policies = nightly();
    let decision = decide(&policies, &caller("nightly-dashboard"), request, MORNING);
    let Decision::Deny(denial) = decision else {
        panic!("{decision:?}");
    };
    assert_eq!(denial.reason, DenyReason::NoRoute);
    let sentence = denial.sentence_for_operator();
    assert!(
        sentence.contains("; the closest is routes[") && sentence.contains(expected),
        "{sentence}"
    );
}

#[rstest]
#[case::permitted(
    "POST slack.com/api/chat.postMessage",
    "dashboard-posts-to-slack 0 bot"
)]
#[case::query_is_no_path(
    "POST slack.com/api/chat.postMessage?x=/y",
    "dashboard-posts-to-slack 0 bot"
)]
#[case::upload_without_credential(
    "POST files.slack.com/upload/v1/a/b",
    "dashboard-posts-to-slack 1 none"
)]
#[case::other_method("GET slack.com/api/chat.postMessage", "request_not_allowed")]
#[case::other_path("POST slack.com/api/conversations.history", "request_not_allowed")]
#[case::path_of_another_case("POST slack.com/api/chat.postmessage", "request_not_allowed")]
#[case::trailing_slash("POST slack.com/api/chat.postMessage/", "request_not_allowed")]
#[case::rule_of_another_host("POST slack.com/upload/v1/a", "no_route")]
#[case::download_is_no_upload("GET files.slack.com/files-pri/x", "request_not_allowed")]
#[case::denied_to_all("POST slack.com/api/auth.revoke", "path_denied")]
#[case::denied_in_any_case("POST slack.com/API/Auth.Revoke", "path_denied")]
#[case::denied_with_slash("POST slack.com/api/oauth.v2.access/", "path_denied")]
#[case::no_route("GET slack.com/", "no_route")]
#[case::other_port("POST slack.com:8443/api/chat.postMessage", "unmatched")]
#[case::prefixed_host("POST notslack.com/api/chat.postMessage", "unmatched")]
#[case::suffixed_host("POST slack.com.evil.test/api/chat.postMessage", "unmatched")]
#[case::subdomain("POST evil.slack.com/api/chat.postMessage", "unmatched")]
#[case::below_the_wildcard("GET wss.evil.slack.com/", "unmatched")]
#[case::host_in_another_spelling(
    "POST Slack.COM./api/chat.postMessage",
    "dashboard-posts-to-slack 0 bot"
)]
fn the_dashboard_posts_to_slack(#[case] request: &str, #[case] expected: &str) {
    let policies = nightly();
    let decision = decide(&policies, &caller("nightly-dashboard"), request, MORNING);
    assert_eq!(told(&decision), expected);
}

#[rstest]
#[case::permitted(
    "GET api.qase.io/v1/run/DEMO?limit=100",
    MORNING,
    "dashboard-reads-qase 0 token"
)]
#[case::too_many("GET api.qase.io/v1/run/DEMO?limit=101", MORNING, "condition_false")]
#[case::repeated(
    "GET api.qase.io/v1/run/DEMO?limit=1&limit=2",
    MORNING,
    "condition_error"
)]
#[case::too_early(
    "GET api.qase.io/v1/run/DEMO",
    "2026-11-23T04:59:59Z",
    "outside_schedule"
)]
#[case::too_late(
    "GET api.qase.io/v1/run/DEMO",
    "2026-11-23T05:45:00Z",
    "outside_schedule"
)]
#[case::last_morning(
    "GET api.qase.io/v1/run/DEMO",
    "2027-06-29T04:10:00Z",
    "dashboard-reads-qase 0 token"
)]
#[case::after_its_end(
    "GET api.qase.io/v1/run/DEMO",
    "2027-06-30T04:10:00Z",
    "policy_expired"
)]
#[case::schedule_goes_first(
    "GET api.qase.io/v1/run/DEMO?limit=101",
    "2028-01-01T00:00:00Z",
    "outside_schedule"
)]
#[case::rules_go_before(
    "DELETE api.qase.io/v1/run/DEMO",
    "2028-01-01T00:00:00Z",
    "request_not_allowed"
)]
fn the_dashboard_reads_qase(#[case] request: &str, #[case] now: &str, #[case] expected: &str) {
    let policies = nightly();
    let decision = decide(&policies, &caller("nightly-dashboard"), request, now);
    assert_eq!(told(&decision), expected);
}

#[test]
fn a_grant_names_everything_that_follows_from_it() {
    let policies = nightly();
    let request = "POST slack.com/api/chat.postMessage";
    let decision = decide(&policies, &caller("nightly-dashboard"), request, MORNING);
    let Decision::Permit(grant) = decision else {
        panic!("{decision:?}");
    };
    assert_eq!(grant.workload.name.as_str(), "qa/nightly-dashboard");
    assert_eq!(grant.policy.name.as_str(), "qa/dashboard-posts-to-slack");
    assert_eq!(grant.mode(), Mode::Enforce);
    assert_eq!(grant.target.name.as_str(), "slack");
    let (attach, credential) = grant.credential.expect("a credential");
    assert_eq!(&*attach.slot, "bot");
    assert_eq!(credential.name.as_str(), "qa/default");
}

#[rstest]
#[case::the_same("qa/default", true)]
#[case::another("qa/other", false)]
fn what_is_open_counts_only_with_its_own_credential(#[case] name: &str, #[case] permitted: bool) {
    let policies = nightly();
    let name = name.strip_prefix("qa/").map(qa);
    let request = Request::new("POST slack.com/api/chat.postMessage");
    let who = caller("nightly-dashboard");
    let again = |name| {
        let decision = policies.decide_again(&who, &request.facts(), name, at(MORNING));
        decision.is_permit()
    };
    assert_eq!(again(name.as_ref()), permitted);
    assert!(!again(None));
}

#[test]
fn a_grant_knows_when_time_ends_it() {
    let policies = nightly();
    let who = caller("nightly-dashboard");
    for (request, end) in [
        ("GET api.qase.io/v1/run/DEMO", Some("2026-11-23T05:45:00Z")),
        ("POST slack.com/api/chat.postMessage", None),
    ] {
        let Decision::Permit(grant) = decide(&policies, &who, request, MORNING) else {
            panic!("{request} is not permitted");
        };
        assert_eq!(grant.valid_until(at(MORNING)), end.map(at));
    }
}

#[test]
fn another_workload_gets_nothing_of_it() {
    let (who, other) = (dashboard(), workload("release", vec![account("release")]));
    let policies = set(&[who.clone(), other], vec![posts_to_slack(&who)]);
    let request = "POST slack.com/api/chat.postMessage";
    let release = decide(&policies, &caller("release"), request, MORNING);
    assert_eq!(told(&release), "target_not_granted");
    let nobody = decide(&policies, &caller("default"), request, MORNING);
    assert_eq!(told(&nobody), "workload_unknown");
    // An unknown caller learns nothing from what every workload is denied.
    let revoke = "POST slack.com/api/auth.revoke";
    assert_eq!(
        told(&decide(&policies, &caller("default"), revoke, MORNING)),
        "workload_unknown"
    );
    assert_eq!(
        told(&decide(&policies, &caller("release"), revoke, MORNING)),
        "path_denied"
    );
}

#[test]
fn a_target_that_no_policy_uses_is_not_governed() {
    let who = dashboard();
    let policies = set(slice::from_ref(&who), vec![reads_qase(&who)]);
    let request = "POST slack.com/api/chat.postMessage";
    assert_eq!(
        told(&decide(
            &policies,
            &caller("nightly-dashboard"),
            request,
            MORNING
        )),
        "unmatched"
    );
    let hosts: Vec<_> = policies
        .intercepted_hosts()
        .map(ToString::to_string)
        .collect();
    assert_eq!(hosts, ["api.qase.io"]);
}

fn all_of_slack(name: &str, who: &Arc<Workload>, mode: Mode) -> Policy {
    Policy {
        mode,
        ..policy(name, who, &slack(), vec![rule(&[], &[], &[])])
    }
}

/// May post a message and nothing else.
fn only_posts(name: &str, who: &Arc<Workload>, mode: Mode) -> Policy {
    Policy {
        name: qa(name),
        mode,
        ..posts_to_slack(who)
    }
}

#[rstest]
#[case::first_by_name(&[("b", Mode::Enforce), ("a", Mode::Enforce)], "POST slack.com/api/chat.postMessage", "a 0 bot")]
#[case::enforcing_before_observing(&[("a", Mode::Observe), ("b", Mode::Enforce)], "POST slack.com/api/chat.postMessage", "b 0 bot")]
#[case::observing_that_permits(&[("a", Mode::Observe), ("b", Mode::Observe)], "POST slack.com/api/chat.postMessage", "a 0 bot")]
#[case::observing_lets_through(&[("a", Mode::Enforce), ("b", Mode::Observe)], "POST slack.com/api/chat.delete", "b none bot but request_not_allowed")]
#[case::observing_softens_no_denied_path(&[("a", Mode::Observe)], "POST slack.com/api/auth.revoke", "path_denied")]
#[case::observing_makes_no_route(&[("a", Mode::Observe)], "GET slack.com/", "no_route")]
#[case::observing_has_no_other_credential(&[("a", Mode::Observe)], "POST slack.com/api/apps.connections.open", "slot_not_granted")]
#[case::enforcing_only(&[("a", Mode::Enforce), ("b", Mode::Enforce)], "POST slack.com/api/chat.delete", "request_not_allowed")]
fn of_several_policies(
    #[case] policies: &[(&str, Mode)],
    #[case] request: &str,
    #[case] expected: &str,
) {
    let who = dashboard();
    let policies = policies
        .iter()
        .map(|(name, mode)| only_posts(name, &who, *mode))
        .collect();
    let policies = set(&[who], policies);
    let decision = decide(&policies, &caller("nightly-dashboard"), request, MORNING);
    assert_eq!(told(&decision), expected);
}

#[test]
fn one_that_observes_and_would_permit_goes_before_one_that_lets_through() {
    let who = dashboard();
    let policies = vec![
        only_posts("a", &who, Mode::Observe),
        all_of_slack("b", &who, Mode::Observe),
    ];
    let policies = set(&[who], policies);
    let request = "POST slack.com/api/chat.delete";
    let decision = decide(&policies, &caller("nightly-dashboard"), request, MORNING);
    assert_eq!(told(&decision), "b 0 bot");
}

#[test]
fn observing_softens_conditions_and_names_the_rule() {
    let who = dashboard();
    let policies = vec![Policy {
        mode: Mode::Observe,
        ..reads_qase(&who)
    }];
    let policies = set(&[who], policies);
    let decision = decide(
        &policies,
        &caller("nightly-dashboard"),
        "GET api.qase.io/v1/run/DEMO",
        "2026-11-23T12:00:00Z",
    );
    assert_eq!(
        told(&decision),
        "dashboard-reads-qase 0 token but outside_schedule"
    );
}

#[test]
fn a_slot_that_one_policy_does_not_fill_another_may() {
    let who = dashboard();
    let first = all_of_slack("a", &who, Mode::Enforce);
    let request = "POST slack.com/api/apps.connections.open";
    let policies = set(slice::from_ref(&who), vec![first.clone()]);
    let decision = decide(&policies, &caller("nightly-dashboard"), request, MORNING);
    assert_eq!(told(&decision), "slot_not_granted");
    let Decision::Deny(Denial {
        nearest: Some(nearest),
        ..
    }) = decision
    else {
        panic!("no nearest rule");
    };
    assert_eq!(
        nearest.mismatches[0].to_string(),
        "credentials: expected app, got bot"
    );

    let second = Policy {
        credentials: vec![("app".into(), credential("app", &slack()))],
        ..all_of_slack("b", &who, Mode::Enforce)
    };
    let policies = set(&[who], vec![first, second]);
    let decision = decide(&policies, &caller("nightly-dashboard"), request, MORNING);
    assert_eq!(told(&decision), "b 0 app");
}

#[test]
fn the_nearest_rule_is_the_one_with_most_in_common() {
    let policies = nightly();
    let request = "GET slack.com/api/chat.postMessage?token=SECRET";
    let decision = decide(&policies, &caller("nightly-dashboard"), request, MORNING);
    let Decision::Deny(denial) = decision else {
        panic!("{decision:?}");
    };
    let nearest = denial.nearest.as_ref().expect("a nearest rule");
    assert_eq!(nearest.policy.name.name(), POSTS);
    assert_eq!(nearest.rule, Some(0));
    let told: Vec<_> = nearest.mismatches.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["methods: expected POST, got GET"]);
    assert_eq!(
        denial.sentence_for_operator(),
        "no rule for qa/nightly-dashboard and slack allows this request; the closest is AccessPolicy \
         qa/dashboard-posts-to-slack, allow[0]: methods: expected POST, got GET; to permit it, \
         extend that rule or add one"
    );
    assert_eq!(
        denial.sentence_for_caller(),
        "qa/nightly-dashboard has access to slack, but not for this request"
    );
}

#[test]
fn outside_the_schedule_the_next_window_is_named() {
    let policies = nightly();
    let request = "GET api.qase.io/v1/run/DEMO";
    let decision = decide(
        &policies,
        &caller("nightly-dashboard"),
        request,
        "2026-11-27T12:00:00Z",
    );
    let Decision::Deny(denial) = decision else {
        panic!("{decision:?}");
    };
    let mismatches = denial.nearest.expect("a nearest rule").mismatches;
    assert_eq!(
        mismatches,
        [Mismatch {
            what: "schedule",
            expected: "`0 6 * * MON-FRI` for 45m in Europe/Berlin".to_owned(),
            actual: "2026-11-27T12:00:00Z, next open at \
                     2026-11-30T06:00:00+01:00[Europe/Berlin]"
                .to_owned(),
        }]
    );
}

#[test]
fn what_is_told_can_neither_act_on_a_terminal_nor_fill_a_log() {
    let mismatch = Mismatch::new("paths", "a\u{1b}[2J\r\n\u{202e}b", &"x".repeat(500));
    assert_eq!(mismatch.expected, "a\\u{1b}[2J\\r\\n\\u{202e}b");
    assert_eq!(mismatch.actual.len(), 403);
}

#[rstest]
#[case::exact("nightly-dashboard", "slack.com", true)]
#[case::exact_for_an_unknown_caller("default", "slack.com", true)]
#[case::wildcard_that_no_rule_names("sockets", "wss-primary.slack.com", true)]
#[case::wildcard_that_a_rule_names("one-socket", "wss-primary.slack.com", true)]
#[case::wildcard_host_that_no_rule_names("one-socket", "wss-other.slack.com", false)]
#[case::wildcard_for_another_host_only("uploads", "wss-primary.slack.com", false)]
#[case::wildcard_for_an_observed_workload("observed", "wss-primary.slack.com", true)]
#[case::wildcard_for_an_unknown_caller("default", "wss-primary.slack.com", false)]
#[case::wildcard_without_a_policy("idle", "wss-primary.slack.com", false)]
fn a_connection_is_decrypted(
    #[case] account_name: &str,
    #[case] host: &str,
    #[case] expected: bool,
) {
    let names = ["sockets", "one-socket", "uploads", "observed", "idle"];
    let [sockets, one_socket, uploads, observed, idle] =
        names.map(|name| workload(name, vec![account(name)]));
    let only = |name, who: &Arc<Workload>, host: &str, mode| Policy {
        mode,
        ..policy(name, who, &slack(), vec![rule(&[host], &[], &[])])
    };
    let policies = vec![
        all_of_slack("sockets", &sockets, Mode::Enforce),
        only(
            "one-socket",
            &one_socket,
            "wss-primary.slack.com",
            Mode::Enforce,
        ),
        only("uploads", &uploads, "files.slack.com", Mode::Enforce),
        only("observed", &observed, "files.slack.com", Mode::Observe),
    ];
    let policies = set(&[sockets, one_socket, uploads, observed, idle], policies);
    let who = policies.recognise(&caller(account_name));
    let host = Host::parse(host).expect("a host");
    match policies.interception(&who, &host, 443) {
        Interception::Intercept(target) => {
            assert!(expected);
            assert_eq!(target.name.as_str(), "slack");
        }
        Interception::Refuse(denial) => assert!(!expected, "{denial:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_to_what_is_not_governed_is_unmatched() {
    let policies = nightly();
    let who = policies.recognise(&caller("nightly-dashboard"));
    for (host, port) in [("example.com", 443), ("192.0.2.1", 443)] {
        let host = Host::parse(host).expect("a host");
        let answer = policies.interception(&who, &host, port);
        assert!(matches!(answer, Interception::Unmatched), "{answer:?}");
        assert!(policies.target(&host, port).is_none());
        assert!(policies.governing_target(&host).is_none());
    }
}
