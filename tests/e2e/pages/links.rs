//! Every link of a page leads to a file that is there, and to a heading that is in it.

use std::{
    collections::{HashMap, HashSet},
    path::{Component, Path, PathBuf},
};

use regex::Regex;

use super::{blocks, pages, read, root};

/// A page without its fenced blocks and code.
fn prose(text: &str) -> String {
    let mut prose = String::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    prose
}

/// The names by which a page's headings are linked, as forges and mdBook make them.
fn anchors(text: &str) -> HashSet<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut anchors = HashSet::new();
    for line in prose(text).lines() {
        let Some(title) = line
            .strip_prefix('#')
            .map(|rest| rest.trim_start_matches('#'))
        else {
            continue;
        };
        let name: String = title
            .trim()
            .to_lowercase()
            .chars()
            .filter(|character| character.is_alphanumeric() || " -_".contains(*character))
            .map(|character| if character == ' ' { '-' } else { character })
            .collect();
        let times = seen.entry(name.clone()).or_default();
        anchors.insert(match *times {
            0 => name,
            more => format!("{name}-{more}"),
        });
        *times += 1;
    }
    anchors
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// The links of a page that lead nowhere.
fn dead(page: &Path, link: &Regex) -> Vec<String> {
    let text = read(page);
    let mut dead = Vec::new();
    for found in link.captures_iter(&prose(&text)) {
        let target = &found[1];
        if target.starts_with("https://") || target.starts_with("mailto:") {
            continue;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let to = match file {
            "" => page.to_owned(),
            file => plain(&page.parent().unwrap_or(Path::new("")).join(file)),
        };
        let is_there = root().join(&to).exists();
        let is_named = || anchor.is_empty() || anchors(&read(&to)).contains(anchor);
        if !is_there || !is_named() {
            dead.push(format!("{}: {target}", page.display()));
        }
    }
    dead
}

#[test]
fn every_link_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").expect("an expression");
    let dead: Vec<_> = pages().iter().flat_map(|page| dead(page, &link)).collect();
    assert_eq!(dead, Vec::<String>::new());
}

#[test]
fn headings_are_named_as_forges_name_them() {
    let names = anchors("# The `a_b` key, and more\n## Twice\n## Twice\n```sh\n# not this\n```\n");
    let expected = ["the-a_b-key-and-more", "twice", "twice-1"].map(str::to_owned);
    assert_eq!(names, HashSet::from(expected));
    assert_eq!(blocks("```sh\n# not this\n```\n").len(), 1);
}
