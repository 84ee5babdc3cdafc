//! `encodedSlash`: which targets keep slashes in ids, and patterns that match nothing elsewhere.

use rstest::rstest;

use super::{
    load_texts, outline,
    several::{HEAD, target},
};
use crate::path::EncodedSlash;

const ROUTES: &str =
    "routes: [{ paths: [\"/projects/a%2Fb/**\"], attach: { header: X, value: \"{token}\" } }]";

fn policy(path: &str) -> String {
    format!(
        "{HEAD}Workload\nmetadata: {{ name: app, namespace: qa }}\nspec:\n  owner: a\n  reviewBy: 2099-06-30\n  \
         match: [{{ serviceAccount: app }}]\n---\n\
         {HEAD}Credential\nmetadata: {{ name: c, namespace: qa }}\nspec: {{ target: gitlab, static: {{ token: {{ file: /run/c }} }} }}\n---\n\
         {HEAD}AccessPolicy\nmetadata: {{ name: p, namespace: qa }}\nspec:\n  owner: a\n  workloads: [app]\n  \
         target: gitlab\n  credential: c\n  allow: [{{ methods: [GET], paths: [\"{path}\"] }}]\n"
    )
}

#[test]
fn a_target_that_keeps_them_may_name_them_in_its_rules() {
    let spec = format!("hosts: [gitlab.example]\n  encodedSlash: keep\n  {ROUTES}");
    let texts = [target("gitlab", &spec), policy("/projects/a%2Fb/issues")];
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let loaded = load_texts(&texts, None).unwrap();
    assert_eq!(outline(&loaded.warnings), [""; 0], "{}", loaded.warnings);
    let targets = loaded.policies.targets();
    let gitlab = targets
        .iter()
        .find(|target| target.name.as_str() == "gitlab");
    assert_eq!(gitlab.unwrap().encoded_slash, EncodedSlash::Keep);
    assert!(
        targets
            .iter()
            .filter(|target| target.encoded_slash == EncodedSlash::Keep)
            .count()
            == 1
    );
}

#[rstest]
#[case::unsaid("")]
#[case::refused("encodedSlash: refuse\n  ")]
fn elsewhere_such_a_rule_matches_nothing(#[case] said: &str) {
    let plain = "routes: [{ attach: { header: X, value: \"{token}\" } }]";
    for (routes, path) in [(ROUTES, "/projects/*"), (plain, "/projects/a%2Fb/issues")] {
        let spec = format!("hosts: [gitlab.example]\n  {said}{routes}");
        let texts = [target("gitlab", &spec), policy(path)];
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let problems = load_texts(&texts, None).unwrap_err();
        let rendered = problems.render(false);
        assert!(rendered.contains("encoded-slash"), "{rendered}");
        assert!(
            rendered.contains("write `encodedSlash: keep`"),
            "{rendered}"
        );
    }
}

#[rstest]
#[case::unknown("hosts: [gitlab.example]\n  encodedSlash: decode", "unknown-value")]
#[case::not_decrypted(
    "hosts: [gitlab.example]\n  intercept: false\n  encodedSlash: keep",
    "not-decrypted"
)]
fn what_makes_no_sense_is_an_error(#[case] spec: &str, #[case] code: &str) {
    let problems = load_texts(&[&target("gitlab", spec)], None).unwrap_err();
    assert!(problems.render(false).contains(code), "{problems}");
}
