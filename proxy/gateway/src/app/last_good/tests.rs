use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

const GOOD: &str = "apiVersion: countersign.dev/v1alpha1\nkind: Workload\nmetadata: { name: one, namespace: qa }\n\
                    spec: { owner: qa, match: [{ serviceAccount: one }] }\n";

fn text(text: &str) -> ResourceText {
    ResourceText {
        path: "/policy/one.yaml".into(),
        text: text.to_owned(),
    }
}

fn in_directory(directory: &Path) -> LastGood {
    LastGood {
        directory: Some(directory.join("state/last-good")),
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let kept = kept_files(&directory.join("state/last-good")).unwrap();
    kept.into_iter().map(|(_, path)| path).collect()
}

#[test]
fn the_newest_revision_is_kept_alone_and_privately() {
    let directory = tempfile::tempdir().unwrap();
    let last_good = in_directory(directory.path());
    assert!(last_good.load(&Setting::default()).is_none());
    last_good.keep(&[text(GOOD)], None);
    let first = last_good.load(&Setting::default()).unwrap();
    assert_eq!(first.texts, [text(GOOD)]);
    let newer = format!("{GOOD}# newer\n");
    last_good.keep(&[text(&newer)], None);
    let second = last_good.load(&Setting::default()).unwrap();
    assert_ne!(second.policies.revision(), first.policies.revision());
    let [file] = files(directory.path()).try_into().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    // Back to the first: the same content has the same name.
    last_good.keep(&[text(GOOD)], None);
    let third = last_good.load(&Setting::default()).unwrap();
    assert_eq!(third.policies.revision(), first.policies.revision());
}

#[test]
fn what_was_changed_or_cut_off_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let last_good = in_directory(directory.path());
    last_good.keep(&[text(GOOD)], None);
    let [file] = files(directory.path()).try_into().unwrap();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert!(last_good.load(&Setting::default()).is_none());
    let other = String::from_utf8(whole.clone())
        .unwrap()
        .replace("one", "two");
    fs::write(&file, other).unwrap();
    assert!(last_good.load(&Setting::default()).is_none());
    fs::write(&file, whole).unwrap();
    assert!(last_good.load(&Setting::default()).is_some());
}

#[test]
fn what_can_no_longer_be_used_is_not_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let last_good = in_directory(directory.path());
    last_good.keep(&[text("kind: [unclosed")], None);
    assert!(last_good.load(&Setting::default()).is_none());
}

#[test]
fn a_directory_that_cannot_be_made_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("state"), "a file").unwrap();
    let last_good = in_directory(directory.path());
    last_good.keep(&[text(GOOD)], None);
    assert!(last_good.load(&Setting::default()).is_none());
}
