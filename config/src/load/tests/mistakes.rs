//! One mistake each, made in valid resources: which finding, and at which line.

use rstest::rstest;

use super::{BASE, load_texts, outline, problems};

/// The base with one text replaced, once.
fn with(from: &str, to: &str) -> String {
    assert_eq!(BASE.matches(from).count(), 1, "{from:?} must be there once");
    BASE.replacen(from, to, 1)
}

#[test]
fn the_base_is_right() {
    assert_eq!(outline(&problems(BASE)), [""; 0]);
}

#[rstest]
// Syntax.
#[case::unclosed("[app]\n  target", "[app\n  target", &["25: invalid-yaml"])]
#[case::half_written("rate: 60/m\n", "rate: \"60", &["33: invalid-yaml"])]
#[case::tab("  allow:\n", "\tallow:\n", &["26: invalid-yaml"])]
#[case::unknown_anchor("[app]", "[*app]", &["24: invalid-yaml"])]
#[case::merge_key("    rate: 60/m", "    <<: { rate: 60/m }", &["33: invalid-yaml"])]
#[case::duplicate_key("  reviewBy: 2027-06-30", "  owner: me", &["6: duplicate-key"])]
#[case::duplicate_in_flow("{ file: /run/secrets/slack/bot }", "{ file: /a/b, file: /c/d }", &["16: wrong-type"])]
// Heads.
#[case::api_version("v1alpha1\nkind: Workload", "v1\nkind: Workload", &["1: wrong-api-version"])]
#[case::kind("kind: Credential", "kind: Credentials", &["11: wrong-kind", "26: dangling-reference"])]
#[case::no_namespace("name: post, namespace: qa", "name: post", &["21: missing-key"])]
#[case::bad_name("name: post", "name: Post", &["21: bad-name"])]
#[case::unknown_in_metadata("{ name: post,", "{ name: post, finalizer: [],", &["21: unknown-key"])]
#[case::unknown_in_head("kind: Workload\n", "kind: Workload\nstate: {}\n", &["3: unknown-key"])]
// Structure.
#[case::unknown_key("workloads: [app]", "workload: [app]", &["22: missing-key", "24: unknown-key"])]
#[case::missing_key("  owner: qa@example.com\n  reviewBy", "  reviewBy", &["4: missing-key"])]
#[case::number_for_text("serviceAccount: app", "serviceAccount: 7", &["8: wrong-type"])]
#[case::text_for_list("workloads: [app]", "workloads: app", &["24: wrong-type"])]
#[case::nothing_for_list("workloads: [app]", "workloads:", &["24: wrong-type"])]
#[case::unknown_mode("  allow:", "  mode: dry-run\n  allow:", &["27: unknown-value"])]
#[case::inline_secret("{ file: /run/secrets/slack/bot }", "hunter2", &["16: inline-secret"])]
#[case::secret_for_path("{ file: /run/secrets/slack/bot }", "{ file: hunter2 }", &["16: inline-secret"])]
#[case::no_reference("{ file: /run/secrets/slack/bot }", "\n      value: hunter2", &["17: unknown-key"])]
#[case::two_sources("{ file: /run/secrets/slack/bot }", "{ file: /a/b, vault: { path: a, key: b } }", &["16: wrong-type"])]
// Values.
#[case::review_by("reviewBy: 2027-06-30", "reviewBy: 2027-06-31", &["6: bad-date"])]
#[case::rotate_by("rotateBy: 2027-03-31", "rotateBy: soon", &["17: bad-date"])]
#[case::not_after("2027-06-30T00:00:00Z", "2027-06-30", &["32: bad-date"])]
#[case::rate("60/m", "60/day", &["33: bad-rate"])]
#[case::wait_too_long("    rate: 60/m", "    waitForRateLimit: 61s", &["33: bad-duration"])]
#[case::rate_zero("60/m", "0/m", &["33: bad-rate"])]
#[case::method("[POST]", "[PSOT]", &["29: bad-method"])]
#[case::path("/api/chat.postMessage", "api/chat.postMessage", &["30: bad-path"])]
#[case::path_not_canonical("/api/chat.postMessage", "/api/../x", &["30: bad-path"])]
#[case::host("hosts: [slack.com]", "hosts: [\"https://slack.com\"]", &["28: bad-host"])]
#[case::owner("owner: qa@example.com\n  reviewBy", "owner: \"\"\n  reviewBy", &["5: empty-value"])]
#[case::wildcard_account("serviceAccount: app", "serviceAccount: \"app-*\"", &["8: bad-selector"])]
#[case::spiffe_id("serviceAccount: app", "spiffeId: spiffe://Prod/x", &["8: bad-selector"])]
#[case::image_by_tag("serviceAccount: app", "serviceAccount: app\n      images: [app:latest]", &["9: image-not-pinned"])]
#[case::no_proven_identity("serviceAccount: app", "cronJob: app", &["8: selector-too-wide"])]
#[case::max_age("  rotateBy: 2027-03-31", "  maxAge: 0s", &["17: bad-duration"])]
// References.
#[case::workload("workloads: [app]", "workloads: [ap]", &["24: dangling-reference"])]
#[case::workload_elsewhere("workloads: [app]", "workloads: [release/app]", &["24: dangling-reference"])]
#[case::target("target: slack\n  credential", "target: slak\n  credential", &["25: dangling-reference", "26: credential-of-other-target"])]
#[case::credential("credential: bot", "credential: bto", &["26: dangling-reference"])]
#[case::other_namespace("  rotateBy: 2027-03-31", "  allowedNamespaces: [release]", &["26: credential-not-allowed"])]
#[case::other_target("target: slack\n  static", "target: qase\n  static", &["26: credential-of-other-target"])]
#[case::slot("credential: bot", "credentials: { bott: bot }", &["26: unknown-slot"])]
#[case::both("credential: bot", "credential: bot\n  credentials: { bot: bot }", &["26: conflicting-keys"])]
// Rules that can never match.
#[case::no_workloads("workloads: [app]", "workloads: []", &["24: empty-list"])]
#[case::no_selectors("  match:\n    - serviceAccount: app", "  match: []", &["7: empty-list"])]
#[case::allows_nothing("allow:\n    - hosts: [slack.com]\n      methods: [POST]\n      paths: [\"/api/chat.postMessage\"]", "allow: []", &["27: empty-list"])]
#[case::foreign_host("hosts: [slack.com]", "hosts: [notslack.com]", &["28: host-not-of-target"])]
#[case::denied_path("/api/chat.postMessage", "/api/auth.revoke", &["30: path-denied"])]
#[case::denied_pattern("/api/chat.postMessage", "/api/oauth.*", &["30: path-denied"])]
#[case::denied_on_any_host("hosts: [slack.com]\n      methods: [POST]\n      paths: [\"/api/chat.postMessage\"]", "paths: [\"/api/tooling.tokens.rotate\"]", &["28: path-denied"])]
#[case::no_route("/api/chat.postMessage", "/apps/x", &["30: no-route"])]
#[case::slot_not_filled("/api/chat.postMessage", "/api/apps.connections.open", &["30: slot-not-filled"])]
#[case::slot_of_host("hosts: [slack.com]\n      methods: [POST]\n      paths: [\"/api/chat.postMessage\"]", "hosts: [hooks.slack.com]\n      paths: [\"/services/**\"]", &["29: slot-not-filled"])]
fn is_an_error(#[case] from: &str, #[case] to: &str, #[case] expected: &[&str]) {
    let text = with(from, to);
    assert_eq!(outline(&problems(&text)), expected);
    assert!(load_texts(&[&text], None).is_err(), "it is no mere warning");
}

#[rstest]
#[case::observe("  allow:", "  mode: observe\n  allow:", &["27: not-enforced"])]
#[case::expired("2027-06-30T00:00:00Z", "2026-11-23T05:00:00Z", &["32: expired"])]
#[case::overdue("rotateBy: 2027-03-31", "rotateBy: 2026-11-22", &["17: rotation-overdue"])]
#[case::rotated_today("rotateBy: 2027-03-31", "rotateBy: 2026-11-23", &["17: rotation-due"])]
#[case::rotated_soon("rotateBy: 2027-03-31", "rotateBy: 2026-12-23", &["17: rotation-due"])]
#[case::review_overdue("reviewBy: 2027-06-30", "reviewBy: 2026-11-22", &["6: review-overdue"])]
#[case::review_due("reviewBy: 2027-06-30", "reviewBy: 2026-12-23", &["6: review-due"])]
#[case::expires_soon("2027-06-30T00:00:00Z", "2026-11-29T05:00:00Z", &["32: expires-soon"])]
#[case::never_opens("    rate: 60/m", "    schedule: { cron: \"0 0 1 7 *\", duration: 1h, timeZone: UTC }", &["32: never-opens"])]
#[case::never_closes("    rate: 60/m", "    schedule: { cron: \"*/30 * * * *\", duration: 30m, timeZone: UTC }", &["33: never-closes"])]
#[case::contradiction("serviceAccount: app", "serviceAccount: app\n      spiffeId: spiffe://prod.example.com/ns/qa/sa/ap", &["9: matches-nobody"])]
#[case::only_at_some_hosts("hosts: [slack.com]\n      methods: [POST]\n      paths: [\"/api/chat.postMessage\"]", "paths: [\"/chat.postMessage\"]", &["28: no-route-at-host"])]
#[case::everything("hosts: [slack.com]\n      methods: [POST]\n      paths: [\"/api/chat.postMessage\"]", "{}", &["28: allows-everything"])]
fn is_a_warning(#[case] from: &str, #[case] to: &str, #[case] expected: &[&str]) {
    let text = with(from, to);
    assert_eq!(outline(&problems(&text)), expected);
    assert!(load_texts(&[&text], None).is_ok(), "it is a mere warning");
}

#[rstest]
#[case::other_namespace_by_name("credential: bot", "credential: qa/bot")]
#[case::by_slot("credential: bot", "credentials: { bot: bot }")]
#[case::due_later("rotateBy: 2027-03-31", "rotateBy: 2026-12-24")]
#[case::reviewed_later("reviewBy: 2027-06-30", "reviewBy: 2026-12-24")]
#[case::expires_later("2027-06-30T00:00:00Z", "2026-11-30T05:00:00Z")]
#[case::closes(
    "    rate: 60/m",
    "    schedule: { cron: \"*/30 * * * *\", duration: 29m, timeZone: UTC }"
)]
#[case::closes_at_night(
    "    rate: 60/m",
    "    schedule: { cron: \"* 6-22 * * *\", duration: 45m, timeZone: UTC }"
)]
#[case::closes_on_sundays(
    "    rate: 60/m",
    "    schedule: { cron: \"* * * * MON-SAT\", duration: 45m, timeZone: UTC }"
)]
#[case::both_proofs(
    "serviceAccount: app",
    "serviceAccount: app\n      spiffeId: spiffe://prod.example.com/ns/qa/sa/app"
)]
#[case::a_wide_pattern_with_denied_parts("/api/chat.postMessage", "/api/**")]
#[case::a_pattern_of_one_segment("/api/chat.postMessage", "/api/chat.*")]
#[case::any_host("hosts: [slack.com]\n      methods", "methods")]
#[case::upload_without_credential(
    "hosts: [slack.com]\n      methods: [POST]\n      paths: [\"/api/chat.postMessage\"]",
    "paths: [\"/upload/v1/**\"]"
)]
#[case::wildcard_host(
    "hosts: [slack.com]\n      methods: [POST]\n      paths: [\"/api/chat.postMessage\"]",
    "hosts: [\"*.slack.com\"]"
)]
#[case::annotations(
    "{ name: app, namespace: qa }",
    "{ name: app, namespace: qa, annotations: { a: b } }"
)]
fn is_right(#[case] from: &str, #[case] to: &str) {
    assert_eq!(outline(&problems(&with(from, to))), [""; 0]);
}

#[test]
fn every_mistake_of_one_resource_is_told_however_many() {
    let numbers: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    let methods = format!("methods: [{}]", numbers.join(", "));
    assert_eq!(
        outline(&problems(&with("methods: [POST]", &methods))),
        vec!["29: wrong-type"; 200]
    );
}

/// One mistake of each kind, together with others.
#[test]
fn a_mistake_hides_no_other_one() {
    let rule =
        "    - hosts: slack.com\n      methods: [1, POST, {}]\n      verbs: []\n    - none\n";
    let text = with("  allow:\n", &format!("  mode: maybe\n  allow:\n{rule}"));
    let text = text.replacen("  target: slack\n  credential", "  credential", 1);
    assert_eq!(
        outline(&problems(&text)),
        [
            "22: missing-key",
            "26: unknown-value",
            "28: wrong-type",
            "29: wrong-type",
            "29: wrong-type",
            "30: unknown-key",
            "31: wrong-type",
        ]
    );
}
