//! Caching, reissue and the passing of time.

use std::{fs, sync::Barrier, thread};

use super::*;
use countersign_core::files;

fn leaf(fixture: &Fixture) -> Arc<ServerConfig> {
    fixture.ca.leaf(&host("slack.com")).unwrap()
}

#[test]
fn a_leaf_is_minted_once_and_kept() {
    let fixture = Fixture::new(&["slack.com"]);
    let first = leaf(&fixture);
    fixture.forward(SignedDuration::from_hours(17));
    assert!(Arc::ptr_eq(&first, &leaf(&fixture)));
}

#[test]
fn callers_at_once_share_one_leaf() {
    let fixture = Fixture::new(&["slack.com"]);
    let barrier = Barrier::new(8);
    let leaves: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    leaf(&fixture)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(leaves.iter().all(|leaf| Arc::ptr_eq(leaf, &leaves[0])));
}

#[test]
fn a_leaf_is_replaced_before_it_ends() {
    let fixture = Fixture::new(&["slack.com"]);
    let first = leaf(&fixture);
    fixture.forward(SignedDuration::from_hours(18));
    let second = leaf(&fixture);
    assert!(!Arc::ptr_eq(&first, &second));
    fixture.forward(SignedDuration::from_hours(17));
    handshake(fixture.client().into(), second, "slack.com").unwrap();
    let refused = handshake(fixture.client().into(), first, "slack.com").unwrap_err();
    assert!(format!("{refused:?}").contains("Expired"), "{refused:?}");
}

#[test]
fn a_leaf_is_replaced_when_the_clock_is_set_back() {
    let fixture = Fixture::new(&["slack.com"]);
    fixture.forward(SignedDuration::from_hours(48));
    let ahead = leaf(&fixture);
    fixture.forward(SignedDuration::from_hours(-24));
    assert!(!Arc::ptr_eq(&ahead, &leaf(&fixture)));
    fixture.greet("slack.com").unwrap();
}

#[test]
fn the_intermediate_is_reissued_at_half_its_life() {
    let fixture = Fixture::new(&["slack.com"]);
    let intermediate = || fixture.greet("slack.com").unwrap().chain[1].clone();
    let first = intermediate();
    fixture.forward(SignedDuration::from_hours(83));
    assert_eq!(first, intermediate());
    fixture.forward(SignedDuration::from_hours(1));
    assert_ne!(first, intermediate());
}

#[test]
fn the_gateway_serves_on_after_an_idle_year() {
    let fixture = Fixture::new(&["slack.com"]);
    fixture.greet("slack.com").unwrap();
    fixture.forward(SignedDuration::from_hours(365 * 24));
    fixture.greet("slack.com").unwrap();
}

#[test]
fn a_failed_reissue_is_survived_while_the_intermediate_lasts() {
    let fixture = Fixture::new(&["slack.com"]);
    let first = fixture.greet("slack.com").unwrap().chain[1].clone();
    let root = fixture.path().join("root.pem");
    let away = fixture.path().join("away");
    fs::rename(&root, &away).unwrap();

    fixture.forward(SignedDuration::from_hours(100));
    assert_eq!(first, fixture.greet("slack.com").unwrap().chain[1]);
    // Within the pause after a failure the file is not looked at, then it is.
    fs::rename(&away, &root).unwrap();
    fixture.forward(SignedDuration::from_secs(59));
    assert_eq!(first, fixture.greet("slack.com").unwrap().chain[1]);
    fixture.forward(SignedDuration::from_secs(1));
    assert_ne!(first, fixture.greet("slack.com").unwrap().chain[1]);

    fs::remove_file(&root).unwrap();
    fixture.forward(SignedDuration::from_hours(7 * 24 + 1));
    let refused = fixture.ca.leaf(&host("slack.com"));
    assert!(matches!(refused, Err(CaError::Missing(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_does_not_answer_holds_nobody_up_while_the_intermediate_lasts() {
    let fixture = Fixture::new(&["slack.com"]);
    let first = fixture.ca.leaf_in_time(&host("slack.com")).await.unwrap();
    let (let_go, hanging) = std::sync::mpsc::channel::<()>();
    let directory = fixture.path().to_owned();
    let stuck = tokio::spawn(async move {
        let hang = move |_: &Path| {
            // An error is the test letting go.
            let _ = hanging.recv();
            Ok::<_, std::io::Error>(())
        };
        files::run_blocking(&directory, hang).await.unwrap_err();
    });
    tokio::task::yield_now().await;
    tokio::time::advance(files::TIMEOUT).await;
    stuck.await.unwrap();

    fixture.forward(SignedDuration::from_hours(17));
    let same = fixture.ca.leaf_in_time(&host("slack.com")).await.unwrap();
    assert!(Arc::ptr_eq(&first, &same));
    fixture.forward(SignedDuration::from_hours(100));
    fixture.ca.leaf_in_time(&host("slack.com")).await.unwrap();
    fixture.forward(SignedDuration::from_hours(100));
    let refused = fixture.ca.leaf_in_time(&host("slack.com")).await;
    assert!(matches!(refused, Err(CaError::Io { .. })), "{refused:?}");
    drop(let_go);
}

#[tokio::test]
async fn a_request_that_finds_the_intermediate_old_has_it_reissued() {
    let fixture = Fixture::new(&["slack.com"]);
    let intermediate = || fixture.greet("slack.com").unwrap().chain[1].clone();
    let first = intermediate();
    fixture.forward(SignedDuration::from_hours(100));
    fixture.ca.leaf_in_time(&host("slack.com")).await.unwrap();
    assert_ne!(first, intermediate());
}

#[test]
fn other_hosts_mean_another_intermediate_and_other_leaves() {
    let fixture = Fixture::new(&["slack.com", "api.qase.io"]);
    let first = leaf(&fixture);
    constrain(&fixture.ca, &["slack.com"]).unwrap();
    assert!(!Arc::ptr_eq(&first, &leaf(&fixture)));
    let refused = fixture.ca.leaf(&host("api.qase.io"));
    assert!(
        matches!(refused, Err(CaError::NotIntercepted(_))),
        "{refused:?}"
    );
}

#[test]
fn the_same_hosts_in_another_order_change_nothing() {
    let fixture = Fixture::new(&["slack.com", "api.qase.io"]);
    let first = leaf(&fixture);
    constrain(&fixture.ca, &["api.qase.io", "slack.com", "SLACK.com."]).unwrap();
    assert!(Arc::ptr_eq(&first, &leaf(&fixture)));
}

#[test]
fn without_hosts_nothing_is_intercepted() {
    let fixture = Fixture::new(&[]);
    assert!(matches!(
        fixture.ca.leaf(&host("slack.com")),
        Err(CaError::NotIntercepted(_))
    ));
    constrain(&fixture.ca, &["slack.com"]).unwrap();
    leaf(&fixture);
    constrain(&fixture.ca, &[]).unwrap();
    assert!(matches!(
        fixture.ca.leaf(&host("slack.com")),
        Err(CaError::NotIntercepted(_))
    ));
    assert!(!fixture.path().join("intermediate.crt").exists());
}

/// Threat 32: a wildcard lets a caller name any number of hosts.
#[test]
fn a_flood_of_names_does_not_fill_memory() {
    let fixture = Fixture::new(&["*.example.com"]);
    for number in 0..300 {
        fixture
            .ca
            .leaf(&host(&format!("h{number}.example.com")))
            .unwrap();
    }
    fixture.ca.leaves.run_pending_tasks();
    assert!(
        fixture.ca.leaves.entry_count() <= 100,
        "{}",
        fixture.ca.leaves.entry_count()
    );
}
