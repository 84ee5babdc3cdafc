//! Files: complete, private, encrypted, and never overwritten if they cannot be read.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rstest::rstest;

use super::*;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "//////////////////////////////////////////8=";

struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.root.path().join("state")
    }

    fn file(&self) -> PathBuf {
        self.path().join("qa.slack-bot.state")
    }

    fn keys(&self, text: &str) -> PathBuf {
        let path = self.root.path().join("key");
        fs::write(&path, text).unwrap();
        chmod(&path, 0o600);
        path
    }

    fn state(&self, key_file: Option<PathBuf>) -> State {
        let directory = Directory::new(self.path(), key_file);
        State::with_store(Store::Directory(directory), Clock::manual(start()))
    }

    /// Writes the next document.
    async fn put(&self, state: &State, number: u32) -> Result<Version, StateError> {
        let read = state.read(&name()).await?;
        state
            .replace(&name(), &read.version, &document(number))
            .await
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn what_is_written_is_read_by_the_next_process_and_is_private() {
    let place = Place::new();
    let state = place.state(None);
    let nothing = state.read(&name()).await.unwrap();
    assert_eq!(nothing.version, Version::Absent);
    let version = place.put(&state, 1).await.unwrap();
    let read = place.state(None).read(&name()).await.unwrap();
    assert_eq!((read.document, read.version), (document(1), version));
    assert_eq!((mode(&place.path()), mode(&place.file())), (0o700, 0o600));
    let other = ResourceName::namespaced("qa", "slack-user");
    assert_eq!(state.read(&other).await.unwrap().version, Version::Absent);
}

#[tokio::test]
async fn only_what_was_read_is_replaced() {
    let place = Place::new();
    let state = place.state(None);
    let first = place.put(&state, 1).await.unwrap();
    let second = place.put(&state, 2).await.unwrap();
    for stale in [Version::Absent, first] {
        let refused = state.replace(&name(), &stale, &document(3)).await;
        assert_eq!(refused, Err(StateError::Conflict));
    }
    assert_eq!(state.read(&name()).await.unwrap().version, second);
}

#[tokio::test]
async fn a_sealed_file_shows_nothing_and_opens_with_its_key_only() {
    let place = Place::new();
    let keys = place.keys(KEY);
    place
        .put(&place.state(Some(keys.clone())), 1)
        .await
        .unwrap();
    let written = fs::read(place.file()).unwrap();
    let shown = String::from_utf8_lossy(&written);
    assert!(!shown.contains("xoxe"), "{shown}");
    let read = place.state(Some(keys)).read(&name()).await.unwrap();
    assert_eq!(read.document, document(1));

    let error = place.state(None).read(&name()).await.unwrap_err();
    assert!(matches!(error, StateError::NoKey { .. }), "{error}");
    let wrong = place.state(Some(place.keys(OTHER_KEY)));
    let error = wrong.read(&name()).await.unwrap_err();
    assert!(matches!(error, StateError::WrongKey { .. }), "{error}");
    assert!(place.put(&wrong, 2).await.is_err());
    assert_eq!(
        fs::read(place.file()).unwrap(),
        written,
        "it was not changed"
    );
}

#[tokio::test]
async fn a_new_key_is_put_first_and_the_old_one_goes_after_the_next_writing() {
    let place = Place::new();
    // Began without a key.
    place.put(&place.state(None), 1).await.unwrap();
    let state = place.state(Some(place.keys(KEY)));
    place.put(&state, 2).await.unwrap();
    place.keys(&format!("{OTHER_KEY}\n{KEY}\n"));
    assert_eq!(state.read(&name()).await.unwrap().document, document(2));
    place.put(&state, 3).await.unwrap();
    place.keys(OTHER_KEY);
    assert_eq!(state.read(&name()).await.unwrap().document, document(3));
}

#[tokio::test]
async fn a_sealed_file_does_not_open_for_another_credential() {
    let place = Place::new();
    let state = place.state(Some(place.keys(KEY)));
    place.put(&state, 1).await.unwrap();
    let text = fs::read(place.file()).unwrap();
    let end = text.iter().position(|byte| *byte == b'\n').unwrap();
    let head = String::from_utf8(text[..end].to_vec()).unwrap();
    let moved = head.replace("qa/slack-bot", "qa/slack-user");
    let target = place.path().join("qa.slack-user.state");
    fs::write(&target, [moved.as_bytes(), &text[end..]].concat()).unwrap();
    chmod(&target, 0o600);
    let other = ResourceName::namespaced("qa", "slack-user");
    let error = state.read(&other).await.unwrap_err();
    assert!(matches!(error, StateError::Corrupt { .. }), "{error}");
}

#[rstest]
#[case::empty(|_: &mut Vec<u8>| Vec::new())]
#[case::cut_short(|file: &mut Vec<u8>| file[..file.len() - 7].to_vec())]
#[case::one_bit(|file: &mut Vec<u8>| { let last = file.len() - 3; file[last] ^= 1; file.clone() })]
#[case::something_else(|_: &mut Vec<u8>| b"{\"not\":\"ours\"}\n{}".to_vec())]
#[case::from_the_future(|file: &mut Vec<u8>| {
    String::from_utf8(file.clone()).unwrap().replacen("\"format\":1", "\"format\":2", 1).into_bytes()
})]
#[tokio::test]
async fn what_cannot_be_understood_is_told_and_left_alone(
    #[case] spoil: fn(&mut Vec<u8>) -> Vec<u8>,
) {
    let place = Place::new();
    let state = place.state(None);
    place.put(&state, 1).await.unwrap();
    let spoilt = spoil(&mut fs::read(place.file()).unwrap());
    fs::write(place.file(), &spoilt).unwrap();
    let error = state.read(&name()).await.unwrap_err();
    assert!(
        matches!(error, StateError::Corrupt { .. } | StateError::Later { .. }),
        "{error}"
    );
    assert!(
        !error.may_pass() && error.to_string().contains("was not changed"),
        "{error}"
    );
    assert!(
        matches!(state.claim(&name(), |_| Some(spent("seed"))).await, Err(found) if found == error)
    );
    assert_eq!(fs::read(place.file()).unwrap(), spoilt);
}

#[rstest]
#[case::file(false, 0o640)]
#[case::file_for_all(false, 0o604)]
#[case::directory(true, 0o750)]
#[case::directory_for_all(true, 0o701)]
#[tokio::test]
async fn what_others_could_read_is_refused(#[case] directory: bool, #[case] loose: u32) {
    let place = Place::new();
    let state = place.state(None);
    place.put(&state, 1).await.unwrap();
    let path = if directory {
        place.path()
    } else {
        place.file()
    };
    chmod(&path, loose);
    let error = state.read(&name()).await.unwrap_err();
    assert!(matches!(error, StateError::Permissions { .. }), "{error}");
    chmod(&path, if directory { 0o700 } else { 0o600 });
    assert!(state.read(&name()).await.is_ok());
}

#[rstest]
#[case::short("AAEC\n", "32 bytes")]
#[case::no_base64("not base64 at all", "32 bytes")]
#[case::empty("\n", "empty")]
#[tokio::test]
async fn a_key_file_that_is_none_is_told(#[case] text: &str, #[case] expected: &str) {
    let place = Place::new();
    let state = place.state(Some(place.keys(text)));
    let error = place.put(&state, 1).await.unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert!(!place.file().exists());
}

#[tokio::test]
async fn a_writing_sweeps_up_what_one_that_was_cut_off_left() {
    let place = Place::new();
    let state = place.state(None);
    place.put(&state, 1).await.unwrap();
    let stray = place.path().join(".countersign-stray");
    fs::write(&stray, "half a refresh token").unwrap();
    place.put(&state, 2).await.unwrap();
    assert!(!stray.exists());
}

#[tokio::test]
async fn one_holds_the_lock_and_who_dies_lets_it_go() {
    let place = Place::new();
    let (first, second) = (place.state(None), place.state(None));
    let holder = first.claim(&name(), |_| Some(spent("seed"))).await.unwrap();
    let Store::Directory(directory) = &second.store else {
        panic!("a directory");
    };
    let name = name();
    let waiting = directory.exclude(&name);
    let soon = tokio::time::timeout(std::time::Duration::from_millis(100), waiting);
    assert!(soon.await.is_err(), "the lock is held");
    // Not settled, as after a crash.
    drop(holder);
    let turn = second.claim(&name, |_| Some(spent("seed"))).await.unwrap();
    let ClaimOutcome::Ours(claim) = turn else {
        panic!("the lock is free");
    };
    assert_eq!(
        claim.spent_since(),
        Some(start()),
        "what the dead one spent is known"
    );
    claim.settle(document(1)).await.unwrap();
    assert_eq!(
        first.read(&name).await.unwrap().document.pair,
        Some(pair(1))
    );
}
