//! The book: every page is in it, in its order, and mdBook makes it without a complaint.

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use countersign_tests::skipped;
use regex::Regex;

use super::{book_pages, read, root};

/// `COUNTERSIGN_TEST_MDBOOK`, or the one beside the tests' Python.
fn mdbook() -> Option<PathBuf> {
    let named = std::env::var_os("COUNTERSIGN_TEST_MDBOOK").map(PathBuf::from);
    let python = std::env::var_os("COUNTERSIGN_TEST_PYTHON").map(PathBuf::from);
    let beside = python.map(|python| python.with_file_name("mdbook"));
    named.or(beside).filter(|program| program.exists())
}

#[test]
fn every_page_is_in_the_summary() {
    let link = Regex::new(r"\]\(([^)\s]+\.md)\)").expect("an expression");
    let summary = read("docs/SUMMARY.md".as_ref());
    let named: Vec<_> = link
        .captures_iter(&summary)
        .map(|found| found[1].to_owned())
        .collect();
    let set: BTreeSet<_> = named.iter().cloned().collect();
    assert_eq!(named.len(), set.len(), "a page is there twice");
    let pages = book_pages();
    let names = pages.iter().filter_map(|page| page.file_name()?.to_str());
    let there: BTreeSet<_> = names
        .filter(|name| *name != "SUMMARY.md")
        .map(str::to_owned)
        .collect();
    assert_eq!(set, there);
}

#[test]
fn the_book_is_built_without_a_complaint() -> anyhow::Result<()> {
    let Some(mdbook) = mdbook() else {
        skipped("the book is not built: there is no mdbook beside COUNTERSIGN_TEST_PYTHON");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let built = Command::new(mdbook)
        .arg("build")
        .arg(root().join("docs"))
        .arg("--dest-dir")
        .arg(folder.path())
        .output()?;
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    for complaint in ["WARN", "ERROR"] {
        assert!(!said.contains(complaint), "{said}");
    }
    for page in book_pages() {
        let html = page.with_extension("html");
        let name = html.file_name().unwrap_or_default();
        let is_there = folder.path().join(name).exists();
        assert!(
            is_there || page.ends_with("SUMMARY.md"),
            "{}",
            page.display()
        );
    }
    Ok(())
}
