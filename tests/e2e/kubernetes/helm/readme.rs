//! The chart's README is made of its values: this table, from `values.yaml` and its comments.

use std::{fmt::Write as _, fs};

use super::root;

const BEGIN: &str = "<!-- Made of values.yaml; a test compares them. -->\n";

/// One line of the values: its indentation, what it says, and the comment behind that.
struct Line<'v> {
    indent: usize,
    text: &'v str,
    comment: &'v str,
}

fn lines(values: &str) -> Vec<Line<'_>> {
    let lines = values.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let text = line.trim_start();
            let indent = line.len() - text.len();
            // No value has a hash.
            let (text, comment) = match text.split_once('#') {
                Some((before, comment)) => (before.trim_end(), comment.trim()),
                None => (text, ""),
            };
            Line {
                indent,
                text,
                comment,
            }
        })
        .collect()
}

fn table(values: &str) -> String {
    let lines = lines(values);
    let mut table = "| value | default | what |\n|---|---|---|\n".to_owned();
    let mut path: Vec<(usize, &str)> = Vec::new();
    let mut above: Vec<&str> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if line.text.is_empty() {
            above.push(line.comment);
            continue;
        }
        let Some((key, value)) = line.text.split_once(':') else {
            continue;
        };
        if line.text.starts_with("- ") {
            continue;
        }
        path.retain(|(indent, _)| *indent < line.indent);
        path.push((line.indent, key));
        let below: Vec<_> = lines[at + 1..]
            .iter()
            .take_while(|it| it.indent > line.indent)
            .filter(|it| !it.text.is_empty())
            .collect();
        let is_list = below.first().is_some_and(|it| it.text.starts_with("- "));
        let default = if is_list {
            below.iter().map(|it| it.text).collect::<Vec<_>>().join(" ")
        } else {
            value.trim().to_owned()
        };
        above.push(line.comment);
        let what = above.join(" ").trim().replace('|', "\\|");
        above.clear();
        let keys: Vec<_> = path.iter().map(|(_, key)| *key).collect();
        if !default.is_empty() || !what.is_empty() {
            let default = if default.is_empty() {
                String::new()
            } else {
                format!("`{default}`")
            };
            _ = writeln!(table, "| `{}` | {default} | {what} |", keys.join("."));
        }
    }
    table
}

#[test]
fn the_readme_has_every_value() {
    let chart = root().join("deploy/helm/countersign");
    let values = fs::read_to_string(chart.join("values.yaml")).expect("the values");
    let readme = fs::read_to_string(chart.join("README.md")).expect("the README");
    let (before, found) = readme.split_once(BEGIN).expect("it has the table");
    let table = table(&values);
    if std::env::var_os("COUNTERSIGN_WRITE_DOCS").is_some() {
        fs::write(chart.join("README.md"), format!("{before}{BEGIN}{table}")).expect("written");
        return;
    }
    assert_eq!(found, table, "run with COUNTERSIGN_WRITE_DOCS=1");
}
