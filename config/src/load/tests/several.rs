//! Several documents and files: all findings at once, and how they relate.

use proptest::prelude::*;
use rstest::rstest;

use super::{BASE, load_texts, outline, problems};

pub(super) const HEAD: &str = "apiVersion: countersign.dev/v1alpha1\nkind: ";

pub(super) fn target(name: &str, spec: &str) -> String {
    format!("{HEAD}TargetService\nmetadata: {{ name: {name} }}\nspec:\n  {spec}\n")
}

#[test]
fn a_broken_document_hides_none_of_the_others() {
    let text = format!("a: [\n---\n{HEAD}Nonsense\n---\n{HEAD}Workload\nmetadata: {{}}\nspec: 7\n");
    assert_eq!(
        outline(&problems(&text)),
        [
            "1: invalid-yaml",
            "3: missing-key",
            "3: missing-key",
            "4: wrong-kind",
            "8: missing-key",
            "9: wrong-type",
        ]
    );
}

#[test]
fn every_mistake_of_a_document_is_found() {
    let text = format!(
        "{HEAD}AccessPolicy\nmetadata: {{ name: p, namespace: qa }}\nspec:\n  \
         ownr: me\n  workloads: no-list\n  target: 7\n  allow:\n    \
         - {{ metods: [GET] }}\n    - {{ paths: /x }}\n  mode: maybe\n"
    );
    assert_eq!(
        outline(&problems(&text)),
        [
            "4: missing-key",
            "5: unknown-key",
            "6: wrong-type",
            "7: wrong-type",
            "9: unknown-key",
            "10: wrong-type",
            "11: unknown-value",
        ]
    );
}

#[test]
fn a_reference_to_a_broken_resource_does_not_dangle() {
    let text = BASE.replacen("reviewBy: 2027-06-30", "reviewBy: never", 1);
    assert_eq!(outline(&problems(&text)), ["6: bad-date"]);
    let text = BASE.replacen("  reviewBy", "  revewBy", 1);
    assert_eq!(outline(&problems(&text)), ["6: unknown-key"]);
}

#[test]
fn a_second_resource_of_the_same_name_is_found_across_files() {
    let second = format!(
        "{HEAD}Workload\nmetadata: {{ name: app, namespace: qa }}\nspec: {{ owner: me, match: [{{ serviceAccount: x }}] }}\n"
    );
    let problems = load_texts(&[BASE, &second], None).unwrap_err();
    assert_eq!(outline(&problems), ["3: duplicate-name"]);
    assert!(problems.0[0].message.ends_with("0.yaml:3"), "{problems}");
    // The same name in another namespace is another resource.
    let elsewhere = second.replace("namespace: qa", "namespace: release");
    let loaded = load_texts(&[BASE, &elsewhere], None).unwrap();
    assert_eq!(outline(&loaded.warnings), ["3: unused-workload"]);
}

#[rstest]
#[case::of_the_catalog("mine", "hosts: [files.slack.com]", &["5: overlapping-targets"])]
#[case::by_wildcard("mine", "hosts: [\"*.slack.com\"]", &["5: overlapping-targets"])]
#[case::other_port("mine", "hosts: [files.slack.com]\n  ports: [8443]", &["3: unused-target"])]
#[case::near_miss("mine", "hosts: [files.slack.com.example.com]", &["3: unused-target"])]
#[case::replaced("slack", "hosts: [slack.com]", &[])]
fn a_host_belongs_to_one_target(
    #[case] name: &str,
    #[case] hosts: &str,
    #[case] expected: &[&str],
) {
    let route = "routes: [{ attach: { header: Authorization, value: \"Bearer {token}\" } }]";
    let target = target(name, &format!("{hosts}\n  {route}"));
    let base = BASE.replacen("  hosts: [slack.com]", "", 1);
    let found = match load_texts(&[&base, &target], None) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    };
    let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    expected.sort();
    let mut found = outline(&found);
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn two_targets_of_the_operator_that_overlap_are_reported_once() {
    let one = target("one", "hosts: [a.example.com]\n  routes: [{}]");
    let two = target(
        "two",
        "hosts: [b.example.com, \"*.example.com\"]\n  routes: [{}]",
    );
    let problems = load_texts(&[&one, &two], None).unwrap_err();
    let errors: Vec<_> = outline(&problems)
        .into_iter()
        .filter(|line| line.ends_with("overlapping-targets"))
        .collect();
    assert_eq!(errors, ["5: overlapping-targets"]);
}

#[rstest]
#[case::own_first("extends: slack\n  hosts: [slack.example.com]\n  routes: [{ paths: [\"/mine\"] }]", &[])]
#[case::nothing_else("extends: slack", &[])]
#[case::unknown("extends: slak", &["5: dangling-reference"])]
#[case::no_hosts("routes: [{}]", &["4: empty-list"])]
#[case::no_routes("hosts: [slack.com]", &["4: empty-list"])]
#[case::foreign_route("extends: slack\n  routes: [{ host: example.com }]", &["6: host-not-of-target"])]
#[case::no_token("extends: slack\n  routes: [{ attach: { header: A, value: b } }]", &["6: bad-template"])]
#[case::two_places("extends: slack\n  routes: [{ attach: { header: A, query: b } }]", &["6: conflicting-keys"])]
#[case::unknown_slot("extends: slack\n  routes: [{ attach: { slot: bto, header: A } }]", &["6: unknown-slot"])]
#[case::deny_and_attach("extends: slack\n  routes: [{ deny: x, attach: { header: A } }]", &["6: conflicting-keys"])]
#[case::probe_elsewhere("extends: slack\n  probe: { method: GET, url: \"https://example.com/\" }", &["6: host-not-of-target"])]
#[case::probe_of_a_denied_path("extends: slack\n  probe: { method: POST, url: \"https://slack.com/api/auth.revoke\" }", &["6: probe-without-credential"])]
#[case::probe_without_credential("extends: slack\n  probe: { method: GET, url: \"https://wss.slack.com/\" }", &["6: probe-without-credential"])]
#[case::probe_of_a_crooked_path("extends: slack\n  probe: { method: GET, url: \"https://slack.com/api/../x\" }", &["6: bad-url"])]
#[case::probe_in_clear("extends: slack\n  probe: { method: GET, url: \"http://slack.com/\" }", &["6: bad-url"])]
#[case::probe_by_path("extends: slack\n  probe: { method: GET, path: \"/api/team.info?x=1\" }", &[])]
#[case::probe_by_url_and_path("extends: slack\n  probe: { method: GET, url: \"https://slack.com/api/team.info\", path: /api/team.info }", &["6: conflicting-keys"])]
#[case::probe_nowhere("extends: slack\n  probe: { method: GET }", &["6: conflicting-keys"])]
#[case::probe_of_a_crooked_path_alone("extends: slack\n  probe: { method: GET, path: /api/../x }", &["6: bad-path"])]
#[case::probe_of_another_port("extends: slack\n  probe: { method: GET, url: \"https://slack.com:8443/api/team.info\" }", &["6: host-not-of-target"])]
#[case::probe_of_a_denied_path_alone("extends: slack\n  probe: { method: POST, path: /api/auth.revoke }", &["6: probe-without-credential"])]
#[case::rewrites_any_path("extends: slack\n  routes: [{ host: hooks.slack.com, attach: { slot: webhook, path: \"{token}\" } }]", &["6: rewrites-any-path"])]
#[case::rewrites_its_paths("extends: slack\n  routes: [{ host: hooks.slack.com, paths: [\"/mine/**\"], attach: { slot: webhook, path: \"{token}\" } }]", &[])]
#[case::other_domain("extends: slack\n  domains: { slack.com: slack.example.com }\n  hosts: [slack.com]", &[])]
#[case::domain_that_is_not_there("extends: slack\n  domains: { lack.com: example.com }", &["6: unknown-domain"])]
#[case::domain_that_is_none("extends: slack\n  domains: { slack.com: \"*.example.com\" }", &["6: bad-host"])]
#[case::domains_of_nothing("hosts: [a.example.com]\n  routes: [{}]\n  domains: { slack.com: example.com }", &["7: missing-key"])]
#[case::failure_by_json_and_text("extends: slack\n  authFailure: [{ json: { ok: false }, text: [no], then: report }]", &["6: conflicting-keys"])]
#[case::failure_is_everything("extends: slack\n  authFailure: [{ then: report }]", &["6: missing-key"])]
#[case::bad_port("extends: slack\n  ports: [0]", &["6: bad-port"])]
#[case::port_too_large("extends: slack\n  ports: [70000]", &["6: bad-value"])]
fn a_target_may_extend_the_catalogs(#[case] spec: &str, #[case] expected: &[&str]) {
    let found = match load_texts(&[BASE, &target("slack", spec)], None) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    };
    assert_eq!(outline(&found), expected, "{found}");
}

#[test]
fn nothing_that_was_pasted_is_shown() {
    let text = BASE
        .replacen("{ file: /run/secrets/slack/bot }", "hunter2-hunter2", 1)
        .replacen("credential: bot", "credential: xoxb-1234567890-hunter2", 1)
        .replacen("reviewBy: 2027-06-30", "clientSecret: hunter2", 1);
    let problems = problems(&text);
    assert_eq!(
        outline(&problems),
        [
            "6: unknown-key",
            "16: inline-secret",
            "26: dangling-reference",
        ]
    );
    for text in [
        problems.render(false),
        problems.to_string(),
        problems.render(true),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_file_of_mistakes_only_is_bounded() {
    use std::fmt::Write as _;
    let mut text = BASE.to_owned();
    for n in 0..1_500 {
        write!(text, "\nx{n}: 1").unwrap();
    }
    let problems = problems(&text);
    assert_eq!(problems.0.len(), 1_001);
    assert!(problems.any_error());
    assert_eq!(problems.0[0].code, "too-many-problems");
    assert!(
        problems.0[0].message.contains(" 500 more"),
        "{}",
        problems.0[0]
    );
}

#[test]
fn one_revision_for_one_text() {
    let revision = |text: &str| {
        let source = crate::yaml::Source {
            path: "x.yaml".into(),
            text: text.to_owned(),
            catalog: false,
        };
        super::revision(&[source], &crate::cluster::Accepted::default())
    };
    assert_eq!(revision(BASE), revision(BASE));
    assert_ne!(revision(BASE), revision(&format!("{BASE} ")));
    assert_eq!(revision(BASE).len(), 12);
}

fn check_all(text: &str) {
    let found = problems(text);
    // Rendering must work for every finding.
    let _ = (found.render(true), found.to_string());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_text_makes_it_panic(text in "[ -~\\n\\t\u{1}é…\u{feff}]{0,300}") {
        check_all(&text);
    }

    /// A valid text, damaged: closer to what people write than random text.
    #[test]
    fn no_damage_makes_it_panic(
        cuts in proptest::collection::vec((0_usize..1200, 0_usize..40, "[ -~\\n]{0,6}"), 1..4),
    ) {
        let mut text: Vec<char> = BASE.chars().collect();
        for (at, length, insert) in cuts {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, insert.chars());
        }
        check_all(&text.into_iter().collect::<String>());
    }
}
