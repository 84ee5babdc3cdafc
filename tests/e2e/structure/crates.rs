//! Which crate may use which: the arrows of ARCHITECTURE.md, read from each `Cargo.toml`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Each crate, by its folder, and all crates of ours that it may name.
const ARROWS: [(&str, &[&str]); 16] = [
    ("config/types", &[]),
    ("config", &["countersign-types"]),
    ("proxy/core", &["countersign-types"]),
    // A gateway issues by it, and so does the controller for all gateways.
    ("proxy/pki", &[]),
    // Written by the gateway, and read by whoever verifies a log.
    ("proxy/audit", &[]),
    (
        "proxy/control-plane",
        &["countersign-config", "countersign-core"],
    ),
    (
        "proxy/identity",
        &[
            "countersign-config",
            "countersign-control-plane",
            "countersign-core",
        ],
    ),
    (
        "proxy/authorize",
        &[
            "countersign-config",
            "countersign-core",
            "countersign-identity",
        ],
    ),
    (
        // What leaves is made of a permit.
        "proxy/upstream",
        &[
            "countersign-authorize",
            "countersign-config",
            "countersign-core",
        ],
    ),
    (
        // Issuers are called by the one client through which everything leaves.
        "proxy/credential",
        &[
            "countersign-config",
            "countersign-control-plane",
            "countersign-core",
            "countersign-upstream",
        ],
    ),
    ("proxy/relay", &["countersign-core", "countersign-types"]),
    (
        "proxy/gateway",
        &[
            "countersign-audit",
            "countersign-authorize",
            "countersign-config",
            "countersign-core",
            "countersign-credential",
            "countersign-identity",
            "countersign-pki",
            "countersign-upstream",
        ],
    ),
    (
        "proxy/controller",
        &[
            "countersign-config",
            "countersign-core",
            "countersign-identity",
            "countersign-pki",
        ],
    ),
    // Reads what others wrote: no TLS, no runtime that serves.
    (
        "proxy/insight",
        &[
            "countersign-audit",
            "countersign-config",
            "countersign-types",
        ],
    ),
    // Shows what others say; the gateway does not know it.
    (
        "proxy/console",
        &[
            "countersign-config",
            "countersign-core",
            "countersign-insight",
            "countersign-types",
        ],
    ),
    (
        "proxy/cli",
        &[
            "countersign-audit",
            "countersign-authorize",
            "countersign-config",
            "countersign-console",
            "countersign-controller",
            "countersign-core",
            "countersign-credential",
            "countersign-gateway",
            "countersign-insight",
            "countersign-relay",
        ],
    ),
];

/// What the relay must not link, though the binary `countersign` does: policy and its expressions,
/// credentials, a certificate authority, and the clients of the operator's own servers.
const NOT_IN_THE_RELAY: [&str; 15] = [
    "countersign-authorize",
    "countersign-config",
    "countersign-control-plane",
    "countersign-credential",
    "countersign-gateway",
    "countersign-identity",
    "countersign-upstream",
    "cel",
    "chrono-tz",
    "hickory-resolver",
    "jsonwebtoken",
    "p12-keystore",
    "rcgen",
    "reqwest",
    "serde-saphyr",
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

/// Every crate that a package links, as Cargo resolves it when that package is built alone.
fn linked(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root())
        .args(["tree", "--offline", "--locked", "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}", "--package", package])
        .output()
        .expect("cargo can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let tree = String::from_utf8(output.stdout).expect("names are text");
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

#[test]
fn the_relay_links_no_policy_no_credential_and_no_authority() {
    let relay = linked("countersign-relay");
    let binary = linked("countersign");
    assert!(relay.contains("countersign-core"), "{relay:?}");
    for name in NOT_IN_THE_RELAY {
        assert!(!relay.contains(name), "the relay links {name}");
        // Or it has another name by now, and this list proves nothing.
        assert!(binary.contains(name), "nothing links {name}");
    }
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
