//! Which files are read.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::{BASE, Problems, outline, resources};

const BROKEN: &str = "kind: [";

fn codes(result: Result<super::Loaded, Problems>) -> Vec<String> {
    match result {
        Ok(loaded) => outline(&loaded.warnings),
        Err(problems) => outline(&problems),
    }
}

fn write(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join(name), text).unwrap();
}

#[test]
fn only_yaml_directly_in_the_directory_counts() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(root, "base.yml", BASE);
    write(root, "notes.txt", BROKEN);
    write(root, "base.yaml.swp", BROKEN);
    write(root, ".hidden.yaml", BROKEN);
    fs::create_dir(root.join("below")).unwrap();
    write(&root.join("below"), "x.yaml", BROKEN);
    let loaded = resources(&[root]).unwrap();
    assert_eq!(outline(&loaded.warnings), ["0: not-read"]);
    assert_eq!(codes(resources(&[root.join("below")])), ["1: invalid-yaml"]);
}

#[test]
fn a_mounted_config_map_is_read_once() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir(root.join("..2026_11_23")).unwrap();
    write(&root.join("..2026_11_23"), "base.yaml", BASE);
    symlink("..2026_11_23", root.join("..data")).unwrap();
    symlink("..data/base.yaml", root.join("base.yaml")).unwrap();
    assert_eq!(codes(resources(&[root])), [""; 0]);
    // Named twice, read once.
    assert_eq!(codes(resources(&[root, &root.join("base.yaml")])), [""; 0]);
}

#[test]
fn what_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    symlink("gone", root.join("a.yaml")).unwrap();
    fs::create_dir(root.join("b.yaml")).unwrap();
    fs::write(root.join("c.yaml"), [0xff, 0xfe]).unwrap();
    write(root, "d.yaml", " \n");
    write(root, "e.yaml", "# nothing yet\n---\n");
    let problems = resources(&[root]).unwrap_err();
    assert_eq!(
        outline(&problems),
        [
            "0: unreadable",
            "0: unreadable",
            "0: unreadable",
            "0: empty-file"
        ]
    );
    let rendered = problems.render(false);
    for name in ["a.yaml", "b.yaml", "c.yaml", "d.yaml"] {
        assert!(rendered.contains(name), "{rendered}");
    }
    assert_eq!(
        codes(resources(&[root.join("vanished")])),
        ["0: unreadable"]
    );
}

#[test]
fn a_place_with_nothing_in_it_is_a_finding() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let nothing = ["0: nothing-found"];
    assert_eq!(codes(resources(&[root])), nothing);
    write(root, "base.yaml.txt", BASE);
    write(root, ".hidden.yaml", BASE);
    assert_eq!(codes(resources(&[root])), nothing);
    // Of several places too.
    let full = tempfile::tempdir().unwrap();
    write(full.path(), "base.yaml", BASE);
    assert_eq!(codes(resources(&[full.path(), root])), nothing);
    write(root, "comments.yaml", "# kind: Workload\n---\n");
    assert_eq!(codes(resources(&[root])), nothing);
    assert_eq!(codes(resources(&[full.path(), root])), [""; 0]);
    write(
        root,
        "empty.yaml",
        "apiVersion: v1\nkind: List\nitems: []\n",
    );
    assert_eq!(codes(resources(&[root])), [nothing[0]; 2]);
}

#[test]
fn a_directory_below_that_has_resources_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for (below, file) in [
        ("team", "base.yml"),
        ("docs", "a.md"),
        ("..2026_1", "b.yaml"),
    ] {
        fs::create_dir(root.join(below)).unwrap();
        write(&root.join(below), file, BASE);
    }
    let loaded = resources(&[root]).unwrap();
    assert_eq!(
        outline(&loaded.warnings),
        ["0: nothing-found", "0: not-read"]
    );
    let text = loaded.warnings.to_string();
    assert!(text.contains("team"), "{text}");
    // Named itself, it is read.
    assert_eq!(
        codes(resources(&[root, &root.join("team")])),
        ["0: nothing-found"]
    );
}
