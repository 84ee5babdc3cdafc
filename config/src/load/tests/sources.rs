//! Where resources come from: the objects of a cluster.

use std::fs;

use rstest::rstest;

use crate::model::{Gateway, KubernetesSource, ResourceSource};

const TWO_ISSUERS: &str = "identity: { issuers: [{ name: a, issuer: https://a.example.com, jwks: { file: /a } }, { name: b, issuer: https://b.example.com, jwks: { file: /b }, REVIEW }] }";

fn load(resources: &str, rest: &str) -> Result<Gateway, Vec<(&'static str, usize)>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.yaml");
    let text = format!(
        "apiVersion: countersign.dev/v1alpha1\nkind: Gateway\nmetadata: {{ name: main }}\nspec:\n  {rest}\n  resources:\n    {resources}\n"
    );
    fs::write(&path, text).unwrap();
    let loaded = super::gateway(&path).map_err(|problems| {
        let all = problems.0.into_iter();
        all.map(|it| (it.code, it.place.map_or(0, |place| place.line)))
            .collect::<Vec<_>>()
    })?;
    Ok(loaded.0)
}

fn source(resources: &str, rest: &str) -> KubernetesSource {
    let gateway = load(resources, rest).unwrap();
    let mut sources = gateway.resources.into_iter();
    let found = sources.find_map(|source| match source {
        ResourceSource::Kubernetes(source) => Some(source),
        ResourceSource::Directory(_) => None,
    });
    found.unwrap()
}

#[test]
fn all_objects_are_read_unless_some_are_named() {
    let all = source("- kubernetes: {}", "");
    assert_eq!(all.namespaces, None);
    assert_eq!(all.cluster.as_deref(), Some("in-cluster"));
    let some = source(
        "- kubernetes: { namespaces: [web, qa], operatorNamespace: platform, selector: { matchLabels: { team: qa } } }",
        "",
    );
    let names: Vec<_> = some.namespaces.unwrap().into_iter().collect();
    assert_eq!(
        names,
        ["platform", "qa", "web"],
        "the operator's is read too"
    );
    assert_eq!(some.labels["team"], "qa");
    assert_eq!(some.operator_namespace.as_deref(), Some("platform"));
}

#[test]
fn beside_files() {
    let gateway = load("- directory: /x\n    - kubernetes: {}", "").unwrap();
    assert_eq!(gateway.resources.len(), 2);
}

/// A Workload without `cluster` must not match callers of another cluster.
#[rstest]
#[case::named("cluster: a", "", Some("a"))]
#[case::reviewed("", "tokenReview: { cluster: in-cluster }", Some("b"))]
#[case::unknown("", "", None)]
fn of_several_issuers_one_is_this_clusters(
    #[case] key: &str,
    #[case] review: &str,
    #[case] expected: Option<&str>,
) {
    let issuers = TWO_ISSUERS.replace(
        ", REVIEW",
        &if review.is_empty() {
            String::new()
        } else {
            format!(", {review}")
        },
    );
    let loaded = load(&format!("- kubernetes: {{ {key} }}"), &issuers);
    match (loaded, expected) {
        (Ok(gateway), Some(expected)) => {
            let ResourceSource::Kubernetes(source) = &gateway.resources[0] else {
                panic!("it is one");
            };
            assert_eq!(source.cluster.as_deref(), Some(expected));
        }
        (Err(codes), None) => assert_eq!(codes, [("which-cluster", 7)]),
        (loaded, _) => panic!("{loaded:?}"),
    }
}

#[rstest]
#[case("- kubernetes: { namespaces: [] }", "empty-list", 7)]
#[case("- kubernetes: { namespaces: [QA] }", "bad-name", 7)]
#[case("- kubernetes: { operatorNamespace: a.b }", "bad-name", 7)]
#[case("- kubernetes: { cluster: elsewhere }", "dangling-reference", 7)]
#[case("- kubernetes: { selector: { matchLabels: {} } }", "empty-list", 7)]
#[case(
    "- kubernetes: { selector: { matchLabels: { \"a b\": c } } }",
    "bad-selector",
    7
)]
#[case(
    "- kubernetes: { selector: { matchExpressions: [] } }",
    "unknown-key",
    7
)]
#[case("- kubernetes: { namespace: qa }", "unknown-key", 7)]
#[case(
    "- kubernetes: {}\n    - kubernetes: { namespaces: [qa] }",
    "second-cluster",
    8
)]
fn mistakes_are_found(#[case] resources: &str, #[case] code: &str, #[case] line: usize) {
    let found = load(resources, "").unwrap_err();
    assert!(found.contains(&(code, line)), "{found:?}");
}
