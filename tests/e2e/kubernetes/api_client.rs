//! The client for the API server: Secrets are read, created and replaced as they were read, and
//! watched. Against the stand-in, and the same against a real kube-apiserver where there is one.

use std::{collections::BTreeMap, path::PathBuf};

use countersign_config::model::Cluster;
use countersign_control_plane::{
    TransportError,
    kube::{Kube, KubeError, WatchEvent},
};
use countersign_core::{clock::Clock, secret::Secret};
use countersign_tests::fake::{ApiServer, Authority, Grant, Issuer};
use http::StatusCode;
use tempfile::TempDir;

const VERBS: [&str; 5] = ["get", "list", "watch", "create", "update"];

struct Stand {
    server: ApiServer,
    kube: Kube,
    directory: TempDir,
}

impl Stand {
    async fn start() -> Self {
        let (authority, clock) = (Authority::default(), Clock::system());
        let issuer = Issuer::start(&authority, clock.clone())
            .await
            .expect("an issuer");
        let server = ApiServer::start(&authority, &issuer, clock)
            .await
            .expect("an API server");
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str| directory.path().join(name);
        std::fs::write(file("roots.pem"), server.ca_pem()).expect("written");
        std::fs::write(file("token"), server.bearer()).expect("written");
        let kube = Kube::new(&Cluster {
            url: server.url(),
            ca_file: Some(file("roots.pem")),
            token_file: file("token"),
        });
        Self {
            server,
            kube,
            directory,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn granted() -> Self {
        let stand = Self::start().await;
        stand.server.grant(Grant::all("qa", &VERBS));
        stand
    }
}

fn data(token: &str) -> BTreeMap<String, Secret> {
    BTreeMap::from([("token".to_owned(), Secret::new(token.to_owned()))])
}

#[tokio::test]
async fn every_write_names_the_version_that_was_read() {
    let stand = Stand::granted().await;
    let Stand { server, kube, .. } = &stand;
    let created = kube
        .create_secret("qa", "slack", &[("app", "countersign")], &data("one"))
        .await
        .unwrap();
    let again = kube.create_secret("qa", "slack", &[], &data("two")).await;
    assert!(
        matches!(again, Err(KubeError::AlreadyExists { .. })),
        "{again:?}"
    );
    let read = kube.read_secret("qa", "slack").await.unwrap();
    assert_eq!(read.resource_version(), created.resource_version());
    assert_eq!(read.bytes("token"), Some(b"one".as_slice()));
    assert_eq!(read.keys().collect::<Vec<_>>(), ["token"]);

    let replaced = kube
        .replace_secret("qa", "slack", &read, &data("two"))
        .await
        .unwrap();
    assert_ne!(replaced.resource_version(), read.resource_version());
    let late = kube
        .replace_secret("qa", "slack", &read, &data("three"))
        .await;
    assert!(matches!(late, Err(KubeError::Conflict { .. })), "{late:?}");
    let held = server.secret("qa", "slack").unwrap();
    assert_eq!(held["token"], b"two");

    // One that was deleted and made anew is another.
    assert!(server.delete_secret("qa", "slack"));
    let gone = kube
        .replace_secret("qa", "slack", &replaced, &data("three"))
        .await;
    assert!(matches!(gone, Err(KubeError::NotFound { .. })), "{gone:?}");
    server.set_secret("qa", "slack", &[("token", b"new")]);
    let other = kube
        .replace_secret("qa", "slack", &replaced, &data("three"))
        .await;
    assert!(
        matches!(other, Err(KubeError::Conflict { .. })),
        "{other:?}"
    );
}

#[tokio::test]
async fn a_watch_tells_each_change_once() {
    let stand = Stand::granted().await;
    let Stand { server, kube, .. } = &stand;
    server.set_secret("qa", "slack", &[("token", b"one")]);
    let listed = kube.list_secret("qa", "slack").await.unwrap();
    let secret = listed.secret.unwrap();
    assert_eq!(secret.bytes("token"), Some(b"one".as_slice()));
    let from = listed.resource_version;
    // It happens before the watch, and is told all the same.
    server.set_secret("qa", "slack", &[("token", b"two")]);
    let mut watch = kube.watch_secret("qa", "slack", &from).await.unwrap();
    let token = |event: Option<WatchEvent>| match event {
        Some(WatchEvent::Present(secret)) => secret.bytes("token").map(<[u8]>::to_vec),
        other => panic!("{other:?}"),
    };
    assert_eq!(token(watch.next().await.unwrap()), Some(b"two".to_vec()));
    server.set_secret("qa", "other", &[("token", b"x")]);
    server.set_secret("elsewhere", "slack", &[("token", b"x")]);
    server.set_secret("qa", "slack", &[("token", b"three")]);
    assert_eq!(token(watch.next().await.unwrap()), Some(b"three".to_vec()));
    server.delete_secret("qa", "slack");
    let deleted = watch.next().await.unwrap();
    assert!(
        matches!(deleted, Some(WatchEvent::Deleted(_))),
        "{deleted:?}"
    );
    server.bookmark();
    let Some(WatchEvent::Bookmark(here)) = watch.next().await.unwrap() else {
        panic!("no bookmark")
    };
    server.end_watches();
    assert!(watch.next().await.unwrap().is_none());

    server.set_secret("qa", "slack", &[("token", b"four")]);
    let mut watch = kube.watch_secret("qa", "slack", &here).await.unwrap();
    assert_eq!(token(watch.next().await.unwrap()), Some(b"four".to_vec()));
    server.forget_changes();
    let mut watch = kube.watch_secret("qa", "slack", &here).await.unwrap();
    assert_eq!(watch.next().await.unwrap_err(), KubeError::Gone);
    let absent = kube.list_secret("qa", "nothing").await.unwrap();
    assert!(absent.secret.is_none());
}

#[tokio::test]
async fn what_is_wrong_is_told_apart() {
    let stand = Stand::start().await;
    let Stand { server, kube, .. } = &stand;
    server.set_secret("qa", "slack", &[("token", b"one")]);
    let forbidden = kube
        .read_secret("qa", "slack")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        forbidden.contains(
            "Role in namespace qa with rules: [{apiGroups: [\"\"], resources: [secrets], \
             resourceNames: [slack], verbs: [get]}]"
        ),
        "{forbidden}"
    );
    let forbidden = kube.create_secret("qa", "slack", &[], &data("x")).await;
    let forbidden = forbidden.unwrap_err().to_string();
    assert!(
        forbidden.contains("resources: [secrets], verbs: [create]}]"),
        "{forbidden}"
    );
    // A Role for one name covers reading, listing and watching that one.
    server.grant(Grant::one("qa", "slack", &["get", "list", "watch"]));
    assert!(kube.read_secret("qa", "slack").await.is_ok());
    let listed = kube.list_secret("qa", "slack").await.unwrap();
    assert!(
        kube.watch_secret("qa", "slack", &listed.resource_version)
            .await
            .is_ok()
    );
    let other = kube.list_secret("qa", "other").await.unwrap_err();
    assert!(
        matches!(&other, KubeError::Forbidden(rights) if rights.verb() == "list"),
        "{other}"
    );
    server.grant(Grant::all("qa", &VERBS));
    let missing = kube.read_secret("qa", "nothing").await.unwrap_err();
    assert!(matches!(missing, KubeError::NotFound { .. }), "{missing}");
    let bad_key = BTreeMap::from([("no key".to_owned(), Secret::new("canary".into()))]);
    let invalid = kube
        .create_secret("qa", "x", &[], &bad_key)
        .await
        .unwrap_err();
    assert!(
        matches!(invalid, KubeError::Rejected { status: 422, .. }),
        "{invalid}"
    );
    assert!(!invalid.to_string().contains("canary"), "{invalid}");
}

#[tokio::test]
async fn files_are_read_afresh_and_failures_told_apart() {
    let stand = Stand::granted().await;
    let Stand { server, kube, .. } = &stand;
    server.set_secret("qa", "slack", &[("token", b"one")]);
    std::fs::write(stand.file("token"), "another").unwrap();
    let refused = kube.read_secret("qa", "slack").await.unwrap_err();
    assert!(matches!(refused, KubeError::Unauthorized(_)), "{refused}");
    std::fs::write(stand.file("token"), server.bearer()).unwrap();
    assert!(
        kube.read_secret("qa", "slack").await.is_ok(),
        "the token is read afresh"
    );
    server.set_outage(Some(StatusCode::SERVICE_UNAVAILABLE));
    let down = kube.read_secret("qa", "slack").await.unwrap_err();
    assert!(
        matches!(down, KubeError::Failed { status: 503, .. }),
        "{down}"
    );
    server.set_outage(Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(
        kube.read_secret("qa", "slack").await.unwrap_err(),
        KubeError::Busy
    );
    server.set_outage(None);
    std::fs::write(stand.file("roots.pem"), Authority::new("Another").pem()).unwrap();
    let distrusted = kube.read_secret("qa", "slack").await.unwrap_err();
    assert!(
        matches!(distrusted, KubeError::Transport(TransportError::Tls(_))),
        "{distrusted}"
    );
}
