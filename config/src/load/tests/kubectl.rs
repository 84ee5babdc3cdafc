//! What `kubectl get -o yaml` prints loads.

use std::fmt::Write as _;

use rstest::rstest;

use super::{BASE, load_texts, outline, problems};

/// What the API server adds.
const SERVER_SET: &str = "
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {\"apiVersion\":\"countersign.dev/v1alpha1\",\"kind\":\"Workload\",\"metadata\":{\"name\":\"${NAME}\"}}
    creationTimestamp: \"2026-11-23T05:00:00Z\"
    deletionGracePeriodSeconds: 0
    deletionTimestamp: \"2026-11-24T05:00:00Z\"
    finalizers: [example.com/finalizer]
    generateName: app-
    generation: 3
    managedFields:
    - apiVersion: countersign.dev/v1alpha1
      fieldsType: FieldsV1
      fieldsV1:
        f:spec:
          .: {}
          f:match: {}
          k:{\"type\":\"Ready\"}: {}
      manager: kubectl-client-side-apply
      operation: Update
      time: \"2026-11-23T05:00:00Z\"
    ownerReferences: []
    resourceVersion: \"123456\"
    selfLink: /apis/countersign.dev/v1alpha1/namespaces/qa/workloads/app
    uid: 7f0c2b1e-1c1d-4f0a-9a51-0d6f5d9f8c11
";

/// The base as one list, with everything that a server adds to each item.
fn list(kind: &str, version: &str) -> String {
    let mut text = format!("apiVersion: {version}\nitems:\n");
    for item in BASE.split("---\n") {
        let (head, rest) = item.split_once("metadata: {").unwrap();
        let (names, spec) = rest.split_once("}\n").unwrap();
        let names: Vec<_> = names
            .split(',')
            .map(|name| format!("    {}", name.trim()))
            .collect();
        let mut lines = head.lines();
        writeln!(text, "- {}", lines.next().unwrap()).unwrap();
        for line in lines {
            writeln!(text, "  {line}").unwrap();
        }
        writeln!(text, "  metadata:{SERVER_SET}{}", names.join("\n")).unwrap();
        for line in spec.lines() {
            writeln!(text, "  {line}").unwrap();
        }
        text.push_str("  status:\n    conditions: []\n    observedGeneration: 3\n");
    }
    writeln!(text, "kind: {kind}\nmetadata:\n  resourceVersion: \"\"").unwrap();
    text
}

#[rstest]
#[case::of_kubectl("List", "v1")]
#[case::of_the_api_server("WorkloadList", "countersign.dev/v1alpha1")]
fn a_list_is_its_items(#[case] kind: &str, #[case] version: &str) {
    let text = list(kind, version);
    let found = problems(&text);
    assert_eq!(outline(&found), [""; 0], "{text}{found}");
    let [listed, apart] = [&text, BASE].map(|text| load_texts(&[text], None).unwrap().policies);
    let names = |set: &crate::policy::PolicySet| {
        let workloads = set.workloads().iter().map(|one| one.name.to_string());
        let policies = set.policies().iter().map(|one| one.name.to_string());
        let credentials = set.credentials().iter().map(|one| one.name.to_string());
        workloads
            .chain(policies)
            .chain(credentials)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&listed), names(&apart));
    assert_eq!(names(&listed).len(), 3);
}

#[test]
fn mistakes_in_a_list_are_found_at_their_lines() {
    let text = "apiVersion: v1\nkind: List\nitem: []\nitems:\n- apiVersion: countersign.dev/v1alpha1\n  kind: \
                Workload\n  metadata: { name: app, namespace: qa }\n  spec: { owner: a, match: [{ \
                serviceAccount: App }] }\n- kind: Pod\n- nothing\n";
    assert_eq!(
        outline(&problems(text)),
        [
            "3: unknown-key",
            "8: bad-selector",
            "9: missing-key",
            "9: missing-key",
            "9: missing-key",
            "9: wrong-kind",
            "10: wrong-type"
        ]
    );
}

#[rstest]
#[case::no_items("apiVersion: v1\nkind: List\n", &["1: missing-key"])]
#[case::items_of_another_form("apiVersion: v1\nkind: List\nitems: {}\n", &["3: wrong-type"])]
#[case::of_others("apiVersion: v1\nkind: PodList\nitems: []\n", &["1: wrong-api-version", "1: missing-key", "1: missing-key", "2: wrong-kind", "3: unknown-key"])]
fn a_list_has_its_form(#[case] text: &str, #[case] expected: &[&str]) {
    let mut found = outline(&problems(text));
    let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn lists_in_lists_are_as_deep_as_yaml_may_be() {
    let mut text = String::from("{ kind: Workload }");
    for _ in 0..10 {
        text = format!("{{ apiVersion: v1, kind: List, items: [{text}] }}");
    }
    let found = outline(&problems(&text));
    assert!(found.iter().all(|one| one == "1: missing-key"), "{found:?}");
    for _ in 0..100 {
        text = format!("{{ apiVersion: v1, kind: List, items: [{text}] }}");
    }
    assert_eq!(outline(&problems(&text)), ["1: invalid-yaml"]);
}
