//! Which crate may use which: the arrows of ARCHITECTURE.md, read from each `Cargo.toml`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Each crate, by its folder, and all crates of ours that it may name. The binary may name all.
const ARROWS: [(&str, &[&str]); 8] = [
    ("config", &[]),
    ("proxy/core", &["countersign-config"]),
    (
        "proxy/identity",
        &["countersign-config", "countersign-core"],
    ),
    (
        "proxy/upstream",
        &["countersign-config", "countersign-core"],
    ),
    (
        // Issuers are called by the one client through which everything leaves.
        "proxy/credential",
        &[
            "countersign-config",
            "countersign-core",
            "countersign-upstream",
        ],
    ),
    ("proxy/relay", &["countersign-config", "countersign-core"]),
    (
        "proxy/gateway",
        &[
            "countersign-config",
            "countersign-core",
            "countersign-credential",
            "countersign-identity",
            "countersign-upstream",
        ],
    ),
    (
        "proxy/cli",
        &[
            "countersign-config",
            "countersign-core",
            "countersign-credential",
            "countersign-gateway",
            "countersign-relay",
        ],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The crates of ours that a manifest names in any of its tables of dependencies.
fn named(manifest: &str) -> BTreeSet<&str> {
    let mut named = BTreeSet::new();
    let mut in_dependencies = false;
    for line in manifest.lines() {
        if let Some(table) = line.strip_prefix('[') {
            in_dependencies = table.contains("dependencies");
        }
        if in_dependencies {
            // Also one that is named as `package = "..."` or in the table's own name.
            let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
            named.extend(words.filter(|word| word.starts_with("countersign")));
        }
    }
    named
}

#[test]
fn no_crate_uses_another_that_the_arrows_forbid() {
    for (folder, allowed) in ARROWS {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let allowed: BTreeSet<_> = allowed.iter().copied().collect();
        let forbidden: Vec<_> = named(&manifest).difference(&allowed).copied().collect();
        assert!(
            forbidden.is_empty(),
            "{folder} must not depend on {forbidden:?}: see \"Crates\" in ARCHITECTURE.md"
        );
    }
}

#[test]
fn every_crate_of_the_proxy_has_its_arrows() {
    let folders: BTreeSet<_> = fs::read_dir(root().join("proxy"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("Cargo.toml").exists())
        .map(|path| format!("proxy/{}", path.file_name().unwrap().display()))
        .collect();
    let drawn: BTreeSet<_> = ARROWS
        .iter()
        .map(|(folder, _)| (*folder).to_owned())
        .filter(|folder| folder.starts_with("proxy/"))
        .collect();
    assert_eq!(folders, drawn);
}

#[test]
fn a_forbidden_dependency_is_seen_however_it_is_written() {
    let ways = BTreeMap::from([
        (
            "inherited",
            "[dependencies]\ncountersign-gateway.workspace = true\n",
        ),
        (
            "for_tests",
            "[dev-dependencies]\ncountersign-gateway = { workspace = true }\n",
        ),
        (
            "renamed",
            "[dependencies]\nfront = { package = \"countersign-gateway\", path = \"../gateway\" }\n",
        ),
        (
            "table",
            "[dependencies.countersign-gateway]\nworkspace = true\n",
        ),
        (
            "for_one_system",
            "[target.'cfg(unix)'.dependencies]\ncountersign-gateway.workspace = true\n",
        ),
    ]);
    for (way, manifest) in ways {
        assert!(named(manifest).contains("countersign-gateway"), "{way}");
    }
    let ours = "[package]\nname = \"countersign-core\"\n";
    assert!(named(ours).is_empty());
}
