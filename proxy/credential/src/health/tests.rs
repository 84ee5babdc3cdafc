//! Limits apply and end; back-offs are bounded.

use std::{sync::Arc, time::Duration};

use countersign_config::model::{RateLimitScope, ResourceName};
use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};
use jiff::Timestamp;
use rstest::rstest;

use super::{host_health::breaker::back_off, limits::retry_after, *};

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
    let a = ResourceName::namespaced("qa", "a");
    let (path, whole) = (RateLimitScope::Path, RateLimitScope::Credential);
    assert_eq!(limits.left(Some(&a), path, "slack.com", "/api/a"), None);
    limits.note(None, path, "slack.com", "/api/a", &after("30"), now());
    // A shorter limit does not end it.
    limits.note(None, path, "slack.com", "/api/a", &after("5"), now());
    pass(Duration::from_secs(10)).await;
    let left = limits.left(Some(&a), path, "slack.com", "/api/a");
    assert_eq!(left, Some(Duration::from_secs(20)));
    assert_eq!(limits.left(Some(&a), path, "slack.com", "/api/b"), None);
    assert_eq!(limits.left(Some(&a), whole, "slack.com", "/api/a"), None);
    limits.note(None, whole, "slack.com", "/api/a", &after("60"), now());
    assert!(limits.left(Some(&a), whole, "other", "/").is_some());
    assert_eq!(limits.all().len(), 2);
    pass(Duration::from_secs(61)).await;
    assert_eq!(limits.left(Some(&a), path, "slack.com", "/api/a"), None);
    assert_eq!(limits.left(Some(&a), whole, "slack.com", "/api/a"), None);
    assert!(limits.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn limits_are_bounded_in_number() {
    let limits = Limits::default();
    for number in 0..10_000 {
        let path = format!("/{number}");
        limits.note(
            None,
            RateLimitScope::Path,
            "a.test",
            &path,
            &after("30"),
            now(),
        );
        pass(Duration::from_millis(1)).await;
    }
    assert_eq!(limits.all().len(), 256);
    assert!(
        limits
            .left(None, RateLimitScope::Path, "a.test", "/9999")
            .is_some()
    );
}

#[tokio::test(start_paused = true)]
async fn what_one_workload_alone_met_holds_others_for_a_short_while() {
    let limits = Limits::default();
    let [a, b, c] = ["a", "b", "c"].map(|name| ResourceName::namespaced("qa", name));
    let scope = RateLimitScope::Credential;
    let left = |name: &ResourceName| limits.left(Some(name), scope, "api.test", "/x");
    for _ in 0..50 {
        limits.note(Some(&a), scope, "api.test", "/a", &after("86400"), now());
    }
    assert_eq!(left(&a), Some(LONGEST_LIMIT));
    assert_eq!(left(&b), Some(LONGEST_LIMIT_ALONE));
    pass(LONGEST_LIMIT_ALONE).await;
    assert_eq!(left(&b), None);
    assert!(left(&a).is_some());
    // A second workload that meets it shows that it concerns all.
    limits.note(Some(&b), scope, "api.test", "/b", &after("600"), now());
    assert_eq!(left(&b), Some(Duration::from_mins(10)));
    assert_eq!(left(&c), Some(Duration::from_mins(10)));
    // So does the gateway's own probe.
    limits.note(
        None,
        RateLimitScope::Path,
        "api.test",
        "/p",
        &after("600"),
        now(),
    );
    let probed = limits.left(Some(&c), RateLimitScope::Path, "api.test", "/p");
    assert_eq!(probed, Some(Duration::from_mins(10)));
}

#[tokio::test(start_paused = true)]
async fn a_path_that_is_too_long_to_be_remembered_is_not() {
    let limits = Limits::default();
    let scope = RateLimitScope::Path;
    for length in [1_024, 1_025, 60_000] {
        let path = format!("/{}", "x".repeat(length - 1));
        limits.note(None, scope, "api.test", &path, &after("30"), now());
        let known = limits.left(None, scope, "api.test", &path).is_some();
        assert_eq!(known, length == 1_024);
    }
}

#[test]
fn a_credential_has_one_health_until_it_goes() {
    let healths = HealthRegistry::default();
    let name = ResourceName::namespaced("qa", "slack-bot");
    let health = healths.of(&name);
    assert!(Arc::ptr_eq(&health, &healths.of(&name)));
    healths.retain([&name]);
    assert!(Arc::ptr_eq(&health, &healths.of(&name)));
    healths.retain([]);
    assert!(!Arc::ptr_eq(&health, &healths.of(&name)));
}
