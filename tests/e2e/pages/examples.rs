//! The recipes of policies: each is loaded, and decides as its expectations say.

use std::fs;

use countersign_tests::process;
use rstest::rstest;

use super::{Block, blocks, read};

/// A recipe: resources, and what is expected of them.
fn recipes(blocks: Vec<Block>) -> (String, Vec<(String, Block)>) {
    let mut shared = String::new();
    let mut resources = String::new();
    let mut recipes = Vec::new();
    let mut yaml = blocks.into_iter().filter(|block| block.language == "yaml");
    if let Some(first) = yaml.next() {
        shared.push_str(&first.text);
    }
    for block in yaml {
        if block.text.starts_with("tests:") {
            recipes.push((std::mem::take(&mut resources), block));
        } else {
            resources.push_str("---\n");
            resources.push_str(&block.text);
        }
    }
    assert_eq!(resources, "", "a recipe without expectations");
    (shared, recipes)
}

#[rstest]
#[case::cookbook("docs/cookbook.md", 6)]
#[case::own_target("docs/own-target.md", 3)]
fn each_recipe_decides_as_it_says(#[case] page: &str, #[case] least: usize) -> anyhow::Result<()> {
    let (shared, recipes) = recipes(blocks(&read(page.as_ref())));
    assert!(recipes.len() >= least, "{} recipes", recipes.len());
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name);
    for (resources, expected) in recipes {
        fs::write(file("resources.yaml"), format!("{shared}{resources}"))?;
        fs::write(file("expected.yaml"), &expected.text)?;
        let tested = std::process::Command::new(process::binary()?)
            .args(["test", "expected.yaml", "--resources", "resources.yaml"])
            .current_dir(folder.path())
            .output()?;
        let said = String::from_utf8_lossy(&tested.stdout);
        let told = String::from_utf8_lossy(&tested.stderr);
        assert_eq!(
            tested.status.code(),
            Some(0),
            "{page}:{}\n{said}\n{told}",
            expected.line
        );
    }
    Ok(())
}
