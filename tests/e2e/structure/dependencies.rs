//! The tables of dependencies in CONTRIBUTING.md: each direct dependency of another's making has a row
//! that says what it is for and which crates name it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use serde_json::Value;

use crate::harness::tests_directory;

/// Each dependency, and the crates of ours that name it.
type Users = BTreeMap<String, BTreeSet<String>>;

/// What the manifests say: what the binaries link, and what tests and benchmarks alone use.
fn manifests() -> (Users, Users) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(tests_directory())
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .output()
        .expect("cargo can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let (mut linked, mut tried) = (Users::new(), Users::new());
    for package in list(&metadata, "packages") {
        let user = short(text(package, "name"));
        for dependency in list(package, "dependencies") {
            let name = text(dependency, "name");
            if name.starts_with("countersign") {
                continue;
            }
            let ships = dependency["kind"].is_null() && !["tests", "bench"].contains(&user);
            let users = if ships { &mut linked } else { &mut tried };
            let users = users.entry(name.to_owned()).or_default();
            users.insert(user.to_owned());
        }
    }
    tried.retain(|name, _| !linked.contains_key(name));
    (linked, tried)
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().expect(key)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().expect(key)
}

/// A crate's name as the tables have it.
fn short(name: &str) -> &str {
    match name {
        "countersign" => "cli",
        other => other.strip_prefix("countersign-").unwrap_or(other),
    }
}

/// The rows of the table that follows a line.
fn table(document: &str, line: &str) -> Users {
    let (_, rest) = document.split_once(line).expect(line);
    let rows = rest
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2);
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, what, users] = cells[..] else {
            panic!("{row}")
        };
        assert!(!what.is_empty(), "{row}");
        let users = users.split(", ").map(str::to_owned).collect();
        (name.trim_matches('`').to_owned(), users)
    })
    .collect()
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let path = tests_directory().join("../CONTRIBUTING.md");
    let document = fs::read_to_string(path).unwrap();
    let (linked, tried) = manifests();
    for (line, users) in [
        ("What the binaries link:", linked),
        ("For tests and benchmarks only:", tried),
    ] {
        let written = table(&document, line);
        let missing: Vec<_> = users
            .iter()
            .filter(|(name, users)| written.get(*name) != Some(users))
            .collect();
        let extra: Vec<_> = written
            .keys()
            .filter(|name| !users.contains_key(*name))
            .collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "the table in CONTRIBUTING.md after \"{line}\" lacks {missing:?}, and has {extra:?}"
        );
    }
}
