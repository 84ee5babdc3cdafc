//! The examples in the documentation load unchanged.

use std::fs;

use super::{gateway, load_texts, outline};

/// The target that credential examples refer to.
const TARGET: &str = "
apiVersion: countersign.dev/v1alpha1
kind: TargetService
metadata: { name: example }
spec:
  hosts: [api.example.com]
  slots: { default: token, names: [token] }
  routes:
    - paths: [\"/**\"]
      attach: { slot: token, header: Authorization, value: \"Bearer {token}\" }
";

/// The blocks of YAML in a document.
fn blocks(document: &str) -> Vec<&str> {
    let parts = document.split("```yaml\n").skip(1);
    parts.filter_map(|part| part.split("```").next()).collect()
}

#[test]
fn every_example_of_a_credential_loads() {
    let document = include_str!("../../../../docs/credentials.md");
    let mut seen = 0;
    for block in blocks(document) {
        let credentials = block.matches("kind: Credential").count();
        if credentials == 0 {
            continue;
        }
        seen += credentials;
        let own_target = block.contains("kind: TargetService");
        let texts: &[&str] = if own_target {
            &[block]
        } else {
            &[block, TARGET]
        };
        let loaded = load_texts(texts, None).unwrap_or_else(|problems| panic!("{block}{problems}"));
        let other: Vec<_> = outline(&loaded.warnings)
            .into_iter()
            .filter(|line| !line.contains("unused-"))
            .collect();
        assert_eq!(other, [""; 0], "{block}");
    }
    assert!(seen >= 6, "only {seen} examples were found");
}

#[test]
fn every_gateway_of_the_readme_loads() {
    let document = include_str!("../../../../README.md");
    let directory = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for block in blocks(document) {
        if block.contains("kind: Gateway") {
            seen += 1;
            let file = directory.path().join("gateway.yaml");
            fs::write(&file, block).unwrap();
            let (_, warnings) = gateway(&file).unwrap_or_else(|problems| panic!("{problems}"));
            assert_eq!(outline(&warnings), [""; 0], "{block}");
        }
    }
    assert_eq!(seen, 2);
}
