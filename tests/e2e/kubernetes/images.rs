//! The images: two builds of each have one digest.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context as _, ensure};
use countersign_tests::{kubelet, process, told};

use crate::harness::tests_directory;

/// Builds all images under a prefix; what is told of each, by its name: digest and size.
fn build(prefix: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let folder = process::binary()?;
    let folder = folder.parent().context("it is in a folder")?;
    let output = Command::new(tests_directory().join("../deploy/build-images"))
        .args(["--tool", "buildah", "--tag", "twice", "--prefix", prefix])
        .arg("--binaries")
        .arg(folder)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    let lines = String::from_utf8(output.stdout)?;
    let images = lines.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix(prefix)?.split_once(' ')?;
        Some((name.to_owned(), rest.to_owned()))
    });
    Ok(images.collect())
}

fn remove(prefix: &str, names: impl Iterator<Item = String>) {
    for name in names {
        // The next build replaces what stays.
        drop(
            Command::new("buildah")
                .args(["rmi", &format!("{prefix}{name}")])
                .output(),
        );
    }
}

#[test]
fn two_builds_of_an_image_have_one_digest() -> anyhow::Result<()> {
    if !kubelet::available() || !Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
        return Ok(());
    }
    let [first, second] = ["localhost/first/", "localhost/second/"];
    let (one, two) = (build(first)?, build(second)?);
    remove(first, one.keys().cloned());
    remove(second, two.keys().cloned());
    ensure!(one.len() == 3, "three images are built: {one:?}");
    for (name, built) in &one {
        ensure!(built.contains("sha256:"), "{name}: {built}");
        told(&format!("two builds of {name}: {built}"));
    }
    ensure!(one == two, "{one:?}\n{two:?}");
    Ok(())
}
