use std::{fs, path::PathBuf};

use super::*;
use crate::model;

mod catalog;
mod corporate_proxy;
mod credentials;
mod deep;
mod destinations;
mod documents;
mod encoded_slashes;
mod files;
mod gateway_changes;
mod gateways;
mod governance;
mod here;
mod kubectl;
mod large;
mod mistakes;
mod names;
mod placeholders;
mod setting;
mod several;
mod shown;
mod sources;
mod traces;
mod unread;

/// Resources without a mistake.
const BASE: &str = include_str!("../../tests/resources/base.yaml");

fn examples(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/resources")
        .join(path)
}

/// Loads texts as the files `0.yaml`, `1.yaml`...
fn load_texts(texts: &[&str], now: Option<Timestamp>) -> Result<Loaded, Problems> {
    let directory = tempfile::tempdir().unwrap();
    for (index, text) in texts.iter().enumerate() {
        fs::write(directory.path().join(format!("{index}.yaml")), text).unwrap();
    }
    let setting = Setting {
        now,
        ..Setting::default()
    };
    load(&[directory.path()], None, &setting)
}

fn problems(text: &str) -> Problems {
    match load_texts(&[text], Some("2026-11-23T05:00:00Z".parse().unwrap())) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    }
}

/// `line: code` of each finding.
fn outline(problems: &Problems) -> Vec<String> {
    problems
        .0
        .iter()
        .map(|problem| {
            let line = problem.place.as_ref().map_or(0, |place| place.line);
            format!("{line}: {}", problem.code)
        })
        .collect()
}

#[test]
fn the_documented_policy_loads() {
    let loaded = resources(&[examples("policy")]).unwrap();
    assert_eq!(outline(&loaded.warnings), ["13: digest-incomplete"]);
}

#[test]
fn the_documented_target_replaces_the_catalogs() {
    let loaded = resources(&[examples("policy"), examples("override")]).unwrap();
    // The base's webhook routes have no `paths`.
    assert_eq!(
        outline(&loaded.warnings),
        ["19: rewrites-any-path", "13: digest-incomplete"]
    );
}

#[test]
fn the_documented_gateway_loads() {
    let (gateway, warnings) = gateway(&examples("gateway.yaml")).unwrap();
    assert_eq!(outline(&warnings), [""; 0]);
    assert_eq!(gateway.listeners.len(), 3);
    assert!(gateway.listeners[2].own_token_file.is_some());
    assert_eq!(gateway.resources.len(), 2);
    let review = gateway.issuers[0].token_review.as_ref().unwrap();
    assert_eq!(review.cluster.url, "https://kubernetes.default.svc");
}

#[test]
fn the_smallest_gateway_has_a_default_for_everything_else() {
    let (gateway, _) = gateway(&examples("smallest/gateway.yaml")).unwrap();
    assert_eq!(
        gateway.listeners[0].address,
        "127.0.0.1:3128".parse().unwrap()
    );
    assert_eq!(
        gateway.observe.admin,
        Some("127.0.0.1:9901".parse().unwrap())
    );
    assert_eq!(gateway.unmatched, model::Unmatched::Deny);
    assert_eq!(gateway.issuers.len(), 1);
}

#[test]
fn an_empty_directory_leaves_the_catalog() {
    let directory = tempfile::tempdir().unwrap();
    let loaded = resources(&[directory.path()]).unwrap();
    assert_eq!(outline(&loaded.warnings), ["0: nothing-found"]);
    assert!(!loaded.policies.targets().is_empty());
}

#[test]
fn ten_mistakes_are_ten_findings() {
    let directory = examples("ten-mistakes");
    let problems = resources(&[&directory]).unwrap_err();
    assert_eq!(problems.0.len(), 10);
    let rendered = problems.render(false);
    let root = format!("{}/", directory.display());
    insta::assert_snapshot!(rendered.replace(&root, ""));
}
