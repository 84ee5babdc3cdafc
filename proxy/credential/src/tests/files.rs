//! Mounted files, reloads, and sources that are not configured.

use std::{os::unix::fs::symlink, time::Duration};

use rstest::rstest;
use tokio::time::advance;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_file_is_read_again_when_it_changes_and_refused_when_it_goes() {
    let file = token_file("one\n");
    let credentials = of_provider(clock());
    let credential = of_file(&file.path);
    let first = credentials.obtain(&credential).await.unwrap();
    assert_eq!((first.secret().expose(), first.generation()), ("one", 1));

    // Same length, and not used for a while: the very next request has the new value.
    std::fs::write(&file.path, "two\n").unwrap();
    advance(Duration::from_secs(2)).await;
    let second = credentials.obtain(&credential).await.unwrap();
    assert_eq!((second.secret().expose(), second.generation()), ("two", 2));

    std::fs::remove_file(&file.path).unwrap();
    advance(Duration::from_secs(2)).await;
    let gone = credentials.obtain(&credential).await;
    assert_eq!(gone.unwrap_err(), missing(&file.path));

    std::fs::write(&file.path, "three\n").unwrap();
    advance(Duration::from_secs(1)).await;
    let third = credentials.obtain(&credential).await.unwrap();
    assert_eq!((third.secret().expose(), third.generation()), ("three", 3));
}

#[tokio::test(start_paused = true)]
async fn under_steady_use_a_change_is_seen_without_making_anyone_wait() {
    let file = token_file("one");
    let credentials = of_provider(clock());
    let credential = of_file(&file.path);
    credentials.obtain(&credential).await.unwrap();
    std::fs::write(&file.path, "two").unwrap();
    advance(Duration::from_millis(1_500)).await;
    let meanwhile = at_first_poll(credentials.obtain(&credential));
    assert_eq!(
        meanwhile.expect("no wait").unwrap().secret().expose(),
        "one"
    );
    let seen = async {
        while credentials.obtain(&credential).await.unwrap().generation() == 1 {
            tokio::task::yield_now().await;
        }
    };
    seen.await;
}

#[tokio::test(start_paused = true)]
async fn kubernetes_swap_of_the_data_link_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for (version, value) in [("..v1", "one"), ("..v2", "two")] {
        std::fs::create_dir(root.join(version)).unwrap();
        std::fs::write(root.join(version).join("token"), value).unwrap();
    }
    symlink("..v1", root.join("..data")).unwrap();
    symlink("..data/token", root.join("token")).unwrap();
    let credential = of_file(&root.join("token"));
    let credentials = of_provider(clock());
    let first = credentials.obtain(&credential).await.unwrap();
    assert_eq!(first.secret().expose(), "one");
    symlink("..v2", root.join("..data_tmp")).unwrap();
    std::fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    advance(Duration::from_secs(2)).await;
    let second = credentials.obtain(&credential).await.unwrap();
    assert_eq!(second.secret().expose(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_half_written_file_is_bridged_for_thirty_seconds_at_most() {
    let file = token_file("one");
    let credentials = of_provider(clock());
    let credential = of_file(&file.path);
    credentials.obtain(&credential).await.unwrap();
    std::fs::write(&file.path, "").unwrap();
    for _ in 0..9 {
        advance(Duration::from_secs(3)).await;
        let issued = credentials.obtain(&credential).await.unwrap();
        assert_eq!(issued.secret().expose(), "one");
    }
    advance(Duration::from_secs(3)).await;
    let error = credentials.obtain(&credential).await.unwrap_err();
    let file: Arc<Path> = Arc::from(&*file.path);
    assert_eq!(error, CredentialError::Empty { file });
}

#[tokio::test]
async fn a_reload_keeps_what_is_unchanged_and_lets_go_of_the_rest() {
    let kept_file = token_file("kept");
    let changed_file = token_file("changed");
    let kept = of_file(&kept_file.path);
    let named = |name, path: &Path| {
        let mut credential = Credential::clone(&of_file(path));
        credential.name = ResourceName::namespaced("qa", name);
        Arc::new(credential)
    };
    let (changed, gone) = (
        named("changed", &changed_file.path),
        named("gone", &kept_file.path),
    );
    let credentials = of_provider(clock());
    let before = credentials.obtain(&kept).await.unwrap();
    let weak = [
        Arc::downgrade(&credentials.obtain(&changed).await.unwrap()),
        Arc::downgrade(&credentials.obtain(&gone).await.unwrap()),
    ];

    let changed = named("changed", &kept_file.path);
    let kept = Arc::new(Credential::clone(&kept));
    credentials.retain(&[Arc::clone(&kept), Arc::clone(&changed)]);

    assert!(Arc::ptr_eq(
        &before,
        &credentials.obtain(&kept).await.unwrap()
    ));
    assert!(weak.iter().all(|weak| weak.upgrade().is_none()));
    let after = credentials.obtain(&changed).await.unwrap();
    assert_eq!((after.secret().expose(), after.generation()), ("kept", 2));
}

#[rstest]
#[case::kubernetes(
    SecretSource::KubernetesSecret { name: "n".into(), key: "k".into() },
    "the Secret qa/n from the Kubernetes API: the gateway's own token file"
)]
#[case::vault(
    SecretSource::Vault {
        mount: "secret".into(),
        path: "p".into(),
        key: "k".into(),
        engine: VaultEngine::Kv2,
    },
    "the Gateway's `vault` is not set"
)]
#[tokio::test]
async fn a_source_that_the_gateway_is_not_set_up_for_says_so(
    #[case] token: SecretSource,
    #[case] says: &str,
) {
    let credential = Arc::new(credential(Provider::Static { token }));
    let error = of_provider(clock()).obtain(&credential).await.unwrap_err();
    assert!(matches!(error, CredentialError::Source(_)));
    assert!(error.to_string().contains(says), "{error}");
}

#[tokio::test]
async fn nothing_shows_the_value() {
    let fake = Fake::open([value("xoxb-canary", None)]);
    let credentials = Credentials::with_fetcher(clock(), Fetcher::Fake(fake));
    let issued = credentials.obtain(&any()).await.unwrap();
    assert!(!format!("{issued:?} {credentials:?}").contains("canary"));

    let file = token_file("canary two words");
    let error = credentials_error(&file.path).await;
    assert!(!format!("{error} {error:?}").contains("canary"));
    assert!(error.to_string().contains(file.path.to_str().unwrap()));
}

async fn credentials_error(path: &Path) -> CredentialError {
    of_provider(clock())
        .obtain(&of_file(path))
        .await
        .unwrap_err()
}
