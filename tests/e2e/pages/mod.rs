//! The pages: what they link to is there, their examples decide as they say, and their commands do what they print.

mod book;
mod commands;
mod examples;
mod links;

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::harness::tests_directory;

/// A fenced block of a page.
struct Block {
    /// What stands behind the fence.
    language: String,
    text: String,
    /// The line of its fence, counted from 1.
    line: usize,
}

fn root() -> PathBuf {
    tests_directory().join("..")
}

/// The pages of the book, and those beside it, by their paths from the root.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "deploy/README.md",
        "deploy/helm/countersign/README.md",
        "examples/nightly-dashboard/README.md",
        "tests/clients/README.md",
    ]
    .map(PathBuf::from)
    .into();
    pages.extend(book_pages());
    pages
}

/// The pages of the book.
fn book_pages() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("docs")).expect("there are pages");
    let names = folder
        .flatten()
        .map(|page| PathBuf::from("docs").join(page.file_name()));
    let mut names: Vec<_> = names
        .filter(|name| name.extension().is_some_and(|it| it == "md"))
        .collect();
    names.sort();
    names
}

fn read(page: &Path) -> String {
    fs::read_to_string(root().join(page))
        .unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

/// The fenced blocks of a page, in their order.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (line, text) in (1..).zip(text.lines()) {
        let fence = text.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(language)) => {
                open = Some(Block {
                    language: language.trim().to_owned(),
                    text: String::new(),
                    line,
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(text);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}
