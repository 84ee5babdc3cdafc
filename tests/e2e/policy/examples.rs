//! Every YAML file in `examples/` and `deploy/` loads as it stands.

use std::{
    fs,
    path::{Path, PathBuf},
};

use countersign_config::load;

#[test]
fn every_example_loads_as_it_stands() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut seen = 0;
    for folder in ["examples", "deploy"] {
        for file in yaml_files(&root.join(folder)) {
            let text = fs::read_to_string(&file).expect("an example can be read");
            // Not within a ConfigMap: those are made by the chart, whose tests load them.
            let is_ours = |line: &str| line.starts_with("apiVersion: countersign.dev/");
            if !text.lines().any(is_ours) {
                continue;
            }
            seen += 1;
            let problems = if text.contains("kind: Gateway") {
                load::gateway(&file).map(|(_, warnings)| warnings)
            } else {
                // Resources refer to each other across the files of a directory.
                let directory = file.parent().expect("a file is in a directory");
                load::resources(&[directory]).map(|loaded| loaded.warnings)
            };
            match problems {
                Ok(warnings) => assert!(warnings.0.is_empty(), "{}: {warnings}", file.display()),
                Err(problems) => panic!("{}: {problems}", file.display()),
            }
        }
    }
    assert!(seen >= 4, "only {seen} examples were found");
}

fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.expect("a directory can be listed").path();
        if path.is_dir() {
            found.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|end| end == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}
