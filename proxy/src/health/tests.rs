//! The breaker opens, tries and closes; limits hold and end.

use std::{sync::Arc, time::Duration};

use countersign_config::model::{RateLimitScope, ResourceName};
use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};
use jiff::Timestamp;
use rstest::rstest;

use super::{breaker::back_off, limits::retry_after, *};

const NOW: &str = "2026-11-23T05:10:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

async fn pass(wait: Duration) {
    tokio::time::advance(wait).await;
}

#[test]
fn back_offs_double_and_stay_within_their_bounds() {
    assert_eq!(back_off(1, 0), BACK_OFF_SHORTEST);
    assert_eq!(back_off(1, 255), Duration::from_millis(1250));
    assert_eq!(back_off(2, 0), Duration::from_secs(2));
    assert_eq!(back_off(9, 0), Duration::from_secs(256));
    for failures in [10, 11, 40, u32::MAX] {
        assert_eq!(back_off(failures, 0), BACK_OFF_LONGEST);
        assert_eq!(back_off(failures, 255), BACK_OFF_LONGEST);
    }
}

#[tokio::test(start_paused = true)]
async fn one_request_in_each_back_off_tries_a_rejected_value() {
    let health = Arc::new(Health::default());
    assert!(health.admit(3).unwrap().is_none());
    let mut wait = health.breaker.trip(3, Some("token_revoked"));
    for _ in 0..12 {
        let rejected = health.admit(3).unwrap_err();
        assert_eq!(rejected.said.as_deref(), Some("token_revoked"));
        assert_eq!(rejected.again_in, wait);
        pass(wait.saturating_sub(Duration::from_millis(1))).await;
        health.admit(3).unwrap_err();
        pass(Duration::from_millis(2)).await;
        let trial = health.admit(3).unwrap().expect("a trial");
        // The others wait for what it finds.
        for _ in 0..100 {
            assert_eq!(health.admit(3).unwrap_err().again_in, Duration::ZERO);
        }
        let next = health.breaker.trip(3, None);
        drop(trial);
        assert!(
            next > wait || next == BACK_OFF_LONGEST,
            "{next:?} after {wait:?}"
        );
        wait = next;
    }
    pass(wait).await;
    let trial = health.admit(3).unwrap().expect("a trial");
    health.breaker.worked(3);
    drop(trial);
    assert!(health.admit(3).unwrap().is_none());
    assert_eq!(health.breaker.rejected(), None);
    // It begins anew.
    assert!(health.breaker.trip(3, None) <= BACK_OFF_SHORTEST * 2);
}

#[tokio::test(start_paused = true)]
async fn another_value_goes_at_once_and_an_old_one_changes_nothing() {
    let health = Arc::new(Health::default());
    let first = health.breaker.trip(3, None);
    // Requests that were under way when it opened.
    for _ in 0..50 {
        assert!(health.breaker.trip(3, None) <= first);
    }
    assert!(health.admit(4).unwrap().is_none());
    health.breaker.worked(2);
    health.admit(3).unwrap_err();
    // Rejected as well: what came before counts on.
    assert!(health.breaker.trip(4, None) >= BACK_OFF_SHORTEST * 2);
    health.admit(4).unwrap_err();
    health.breaker.worked(5);
    assert!(health.admit(5).unwrap().is_none());
    assert_eq!(health.breaker.rejected(), None);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_came_to_nothing_leaves_the_next_one_free() {
    let health = Arc::new(Health::default());
    let wait = health.breaker.trip(1, None);
    pass(wait).await;
    let trial = health.admit(1).unwrap().expect("a trial");
    health.admit(1).unwrap_err();
    drop(trial);
    assert!(health.admit(1).unwrap().is_some());
}

#[rstest]
#[case("30", Some(30))]
#[case(" 1 ", Some(1))]
#[case("0", None)]
#[case("", None)]
#[case("-1", None)]
#[case("1.5", None)]
#[case("soon", None)]
#[case("86400", Some(3600))]
#[case("99999999999999999999999", Some(3600))]
#[case("Mon, 23 Nov 2026 05:10:30 GMT", Some(30))]
#[case("Monday, 23-Nov-26 05:10:30 GMT", Some(30))]
#[case("Mon Nov 23 05:10:30 2026", Some(30))]
#[case("Mon, 23 Nov 2026 05:09:59 GMT", None)]
#[case("Mon, 23 Nov 2026 05:10:00 GMT", None)]
#[case("Tue, 24 Nov 2026 05:10:00 GMT", Some(3600))]
fn retry_after_is_read_in_all_its_forms(#[case] value: &str, #[case] secs: Option<u64>) {
    let value = HeaderValue::from_str(value).unwrap();
    assert_eq!(retry_after(&value, now()), secs.map(Duration::from_secs));
}

fn after(secs: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(RETRY_AFTER, HeaderValue::from_static(secs));
    headers
}

#[tokio::test(start_paused = true)]
async fn a_limit_holds_for_what_it_speaks_of_until_it_ends() {
    let limits = Limits::default();
    let (path, whole) = (RateLimitScope::Path, RateLimitScope::Credential);
    assert_eq!(limits.left(path, "slack.com", "/api/a"), None);
    limits.note(path, "slack.com", "/api/a", &after("30"), now());
    // A shorter one does not end it.
    limits.note(path, "slack.com", "/api/a", &after("5"), now());
    pass(Duration::from_secs(10)).await;
    let left = limits.left(path, "slack.com", "/api/a");
    assert_eq!(left, Some(Duration::from_secs(20)));
    assert_eq!(limits.left(path, "slack.com", "/api/b"), None);
    assert_eq!(limits.left(whole, "slack.com", "/api/a"), None);
    limits.note(whole, "slack.com", "/api/a", &after("60"), now());
    assert!(limits.left(whole, "other", "/").is_some());
    assert_eq!(limits.all().len(), 2);
    pass(Duration::from_secs(61)).await;
    assert_eq!(limits.left(path, "slack.com", "/api/a"), None);
    assert_eq!(limits.left(whole, "slack.com", "/api/a"), None);
    assert!(limits.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn limits_are_bounded_in_number() {
    let limits = Limits::default();
    for number in 0..10_000 {
        let path = format!("/{number}");
        limits.note(RateLimitScope::Path, "a.test", &path, &after("30"), now());
        pass(Duration::from_millis(1)).await;
    }
    assert_eq!(limits.all().len(), 256);
    assert!(
        limits
            .left(RateLimitScope::Path, "a.test", "/9999")
            .is_some()
    );
}

#[test]
fn a_credential_has_one_health_until_it_goes() {
    let healths = Healths::default();
    let name = ResourceName::namespaced("qa", "slack-bot");
    let health = healths.of(&name);
    assert!(Arc::ptr_eq(&health, &healths.of(&name)));
    healths.retain([&name]);
    assert!(Arc::ptr_eq(&health, &healths.of(&name)));
    healths.retain([]);
    assert!(!Arc::ptr_eq(&health, &healths.of(&name)));
}
