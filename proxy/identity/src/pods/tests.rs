use std::collections::BTreeMap;

use super::*;

fn pod(uid: &str) -> ObservedPod {
    ObservedPod {
        uid: uid.into(),
        namespace: "qa".into(),
        facts: PodFacts {
            labels: BTreeMap::from([("app".to_owned(), "nightly".to_owned())]),
            ..PodFacts::default()
        },
        complete: true,
        ended: None,
    }
}

fn watched() -> Pods {
    let pods = Pods::default();
    pods.want(BTreeSet::from(["qa".to_owned()]));
    pods
}

async fn known(pods: &Pods, uid: &str) -> Arc<KnownPod> {
    match pods.find("qa", uid).await {
        Found::Known(pod) => pod,
        other => panic!("{other:?}"),
    }
}

async fn unknown(pods: &Pods, uid: &str) -> Arc<str> {
    match pods.find("qa", uid).await {
        Found::Unknown(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn each_way_of_not_knowing_has_its_words() {
    let pods = watched();
    assert!(matches!(pods.find("other", "a").await, Found::NotWatched));
    assert!(unknown(&pods, "a").await.contains("has not begun"));
    pods.trouble("qa", Some("it forbids to watch pods"));
    assert_eq!(&*unknown(&pods, "a").await, "it forbids to watch pods");
    pods.trouble("qa", None);
    assert!(unknown(&pods, "a").await.contains("not all read yet"));
    pods.synced("qa", &HashSet::new());
    assert!(unknown(&pods, "a").await.contains("has not shown a pod"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_seen_within_a_moment_is_waited_for() {
    let pods = Arc::new(watched());
    pods.synced("qa", &HashSet::new());
    let waiting = tokio::spawn({
        let pods = Arc::clone(&pods);
        async move { known(&pods, "a").await.facts.labels.len() }
    });
    tokio::task::yield_now().await;
    let incomplete = ObservedPod {
        complete: false,
        ..pod("a")
    };
    pods.observe(incomplete);
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "its images are not known yet");
    pods.observe(pod("a"));
    assert_eq!(waiting.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_stays_incomplete_is_used_as_it_is() {
    let pods = watched();
    pods.observe(ObservedPod {
        complete: false,
        ..pod("a")
    });
    assert!(known(&pods, "a").await.gone().is_none());
    // But not while the API server cannot be asked for the rest.
    pods.trouble("qa", Some("it forbids to list jobs"));
    assert_eq!(&*unknown(&pods, "a").await, "it forbids to list jobs");
    pods.observe(pod("a"));
    assert!(known(&pods, "a").await.gone().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_ended_pod_stays_ended() {
    let pods = watched();
    pods.observe(pod("a"));
    let before = known(&pods, "a").await;
    pods.deleted(&"a".into());
    before.over().await;
    assert_eq!(before.gone(), Some(Gone::Ended("its pod was deleted")));
    // A late event of a watch does not bring it back.
    pods.observe(pod("a"));
    assert!(matches!(pods.find("qa", "a").await, Found::Ended(_)));
}

#[tokio::test(start_paused = true)]
async fn a_finished_pod_has_ended() {
    for end in [PodEnd::Succeeded, PodEnd::Failed] {
        let pods = watched();
        pods.observe(pod("a"));
        let before = known(&pods, "a").await;
        pods.observe(ObservedPod {
            ended: Some(end),
            ..pod("a")
        });
        assert!(matches!(before.gone(), Some(Gone::Ended(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn other_labels_make_it_another_pod_and_the_same_do_not() {
    let pods = watched();
    pods.observe(pod("a"));
    let before = known(&pods, "a").await;
    pods.observe(pod("a"));
    assert_eq!(before.gone(), None);
    let mut other = pod("a");
    other.facts.labels.clear();
    pods.observe(other);
    assert_eq!(before.gone(), Some(Gone::Changed));
    assert!(known(&pods, "a").await.facts.labels.is_empty());
}

/// After an outage the watch reads everything anew.
#[tokio::test(start_paused = true)]
async fn what_is_missing_in_a_whole_list_was_deleted() {
    let pods = watched();
    pods.observe(pod("a"));
    pods.observe(pod("b"));
    pods.observe(ObservedPod {
        namespace: "other".into(),
        ..pod("c")
    });
    pods.synced("qa", &HashSet::from(["b".into()]));
    assert!(matches!(pods.find("qa", "a").await, Found::Ended(_)));
    assert!(matches!(pods.find("qa", "b").await, Found::Known(_)));
    assert!(matches!(pods.find("other", "c").await, Found::Known(_)));
}

#[tokio::test(start_paused = true)]
async fn ended_pods_are_remembered_within_a_bound() {
    let pods = watched();
    for number in 0..=ENDED_KEPT {
        pods.deleted(&number.to_string().into());
    }
    pods.synced("qa", &HashSet::new());
    assert_eq!(pods.state().ended.len(), ENDED_KEPT);
    assert!(matches!(pods.look("qa", "0"), Found::Unknown(_)));
    assert!(matches!(pods.look("qa", "1"), Found::Ended(_)));
}
