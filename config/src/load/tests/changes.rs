//! What differs between two revisions.

use super::*;

#[test]
fn what_was_added_changed_and_removed_is_named() {
    let before = load_texts(&[BASE], None).unwrap().fingerprints;
    assert_eq!(before.changes(&before), []);
    // Comments, and the order of files, say nothing.
    let same = load_texts(&[&format!("# more\n\n{BASE}\n# more\n")], None).unwrap();
    assert_eq!(before.changes(&same.fingerprints), []);
    let workload = |name: &str, owner: &str| {
        format!(
            "---\napiVersion: countersign.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}, namespace: qa}}\n\
             spec:\n  owner: {owner}\n  reviewBy: 2027-06-30\n  match: [{{cluster: prod-eu, serviceAccount: {name}}}]\n"
        )
    };
    let load = |texts: &[String]| {
        let text = format!("{BASE}\n{}", texts.concat());
        load_texts(&[&text], None).unwrap().fingerprints
    };
    let one = load(&[
        workload("one", "a@example.com"),
        workload("two", "a@example.com"),
    ]);
    let next = load(&[
        workload("one", "b@example.com"),
        workload("three", "a@example.com"),
    ]);
    let told: Vec<_> = one
        .changes(&next)
        .into_iter()
        .map(|change| format!("{} {} {}", change.what.as_str(), change.kind, change.name))
        .collect();
    assert_eq!(
        told,
        [
            "changed Workload qa/one",
            "added Workload qa/three",
            "removed Workload qa/two"
        ]
    );
    assert_eq!(before.changes(&one).len(), 2);
}
