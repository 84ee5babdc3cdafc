//! Which keys of a Gateway file changed.

use std::fs;

use rstest::rstest;

use super::{gateway_changes, outline};

const BEFORE: &str = "# a comment
apiVersion: countersign.dev/v1alpha1
kind: Gateway
metadata: { name: main }
spec:
  resources: [{ directory: /etc/countersign/policy }]
  limits: { drain: 25s }
  upstream: { roots: system }
  observe: { admin: \"127.0.0.1:9901\" }
";

fn changes(after: &str) -> Result<Vec<String>, Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.yaml");
    fs::write(&file, after).unwrap();
    gateway_changes(BEFORE, &file).map_err(|problems| outline(&problems))
}

#[rstest]
#[case::nothing("", "", &[])]
#[case::comment("# a comment\n", "", &[])]
#[case::order("  limits: { drain: 25s }\n  upstream: { roots: system }\n", "  upstream:\n    roots: \"system\"\n  limits: { drain: 25s }\n", &[])]
#[case::labels("{ name: main }", "{ name: main, labels: { a: b }, generation: 3 }", &[])]
#[case::name("name: main", "name: other", &["metadata.name"])]
#[case::value("drain: 25s", "drain: 30s", &["spec.limits.drain"])]
#[case::removed("  limits: { drain: 25s }\n", "", &["spec.limits"])]
#[case::added("  limits", "  unmatched: tunnel\n  limits", &["spec.unmatched"])]
#[case::in_a_list("/etc/countersign/policy", "/etc/policy", &["spec.resources[0].directory"])]
#[case::a_longer_list("[{ directory: /etc/countersign/policy }]", "[{ directory: /a }, { directory: /b }]", &["spec.resources"])]
#[case::several("{ drain: 25s }\n  upstream: { roots: system }", "{ drain: 30s }\n  upstream: { roots: /a.pem }", &["spec.limits.drain", "spec.upstream.roots"])]
fn the_keys_that_differ_are_named(#[case] from: &str, #[case] to: &str, #[case] keys: &[&str]) {
    let after = BEFORE.replacen(from, to, 1);
    assert_eq!(
        changes(&after),
        Ok(keys.iter().map(ToString::to_string).collect())
    );
}

#[test]
fn a_file_that_cannot_be_used_any_more_is_told_with_its_mistakes() {
    let after = BEFORE.replacen("roots", "rootz", 1);
    assert_eq!(changes(&after), Err(vec!["8: unknown-key".to_owned()]));
    assert_eq!(changes(""), Err(vec!["0: empty-file".to_owned()]));
}
