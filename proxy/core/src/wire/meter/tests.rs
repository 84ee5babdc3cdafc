use http::{HeaderValue, Request, Version};
use http_body::SizeHint;
use rstest::rstest;

use super::*;
use crate::{budget::Budget, metrics::Metrics};

const KIB: usize = 1024;

fn budget() -> Budget {
    Budget::new(64 << 20, &Metrics::new())
}

/// The purse of an unidentified client, or of an identified caller.
fn purse(budget: &Budget, proven: bool) -> Arc<Purse> {
    let purse = budget.admit().unwrap();
    if proven {
        purse
            .belongs_to(&budget.account_of("issuer", "subject"))
            .unwrap();
    }
    purse
}

fn held(budget: &Budget) -> usize {
    let (unidentified, workloads) = budget.held();
    unidentified + workloads
}

#[test]
fn a_usual_head_costs_nothing_more() {
    let budget = budget();
    let mut meter = Meter::new(&purse(&budget, false), 64 * KIB);
    let before = held(&budget);
    meter.read_head(500, 8 * KIB - 500).unwrap();
    meter.read_head(0, 8 * KIB).unwrap();
    meter.read(2 * KIB, true).unwrap();
    assert_eq!(held(&budget), before);
}

#[rstest]
#[case::within(16 * KIB, false, true)]
#[case::beyond(16 * KIB + 1, false, false)]
#[case::proven(60 * KIB, true, true)]
fn a_head_is_short_until_somebody_is_proven(
    #[case] head: usize,
    #[case] proven: bool,
    #[case] taken: bool,
) {
    let budget = budget();
    let mut meter = Meter::new(&purse(&budget, proven), 64 * KIB);
    let before = held(&budget);
    let read = meter.read_head(head, 0);
    assert_eq!(read.is_ok(), taken, "{read:?}");
    if taken {
        assert!(held(&budget) >= before + head - 2 * STEP);
        meter.rests();
        assert_eq!(held(&budget), before);
    } else {
        assert_eq!(read, Err(Overrun::Unproven(16 * KIB)));
    }
}

#[test]
fn the_configured_bound_holds_where_it_is_smaller() {
    let budget = budget();
    let mut meter = Meter::new(&purse(&budget, false), KIB);
    assert_eq!(meter.read_head(KIB + 1, 0), Err(Overrun::Unproven(KIB)));
}

#[test]
fn what_comes_over_http2_is_charged_up_to_what_can_be_held() {
    let budget = budget();
    let mut meter = Meter::new(&purse(&budget, true), 64 * KIB);
    let before = held(&budget);
    for _ in 0..1000 {
        meter.read(16 * KIB, false).unwrap();
    }
    let most = narrow(CONNECTION_WINDOW + HEAD_FACTOR * 64 * 1024);
    assert!(held(&budget) - before <= most);
    assert!(held(&budget) - before > most - 3 * STEP);
    // Nothing waits: nothing is held.
    meter.read(KIB, true).unwrap();
    assert_eq!(held(&budget), before);
}

#[test]
fn little_comes_over_http2_before_any_proof() {
    let budget = budget();
    let mut meter = Meter::new(&purse(&budget, false), 64 * KIB);
    let most = narrow(UNIDENTIFIED_WINDOW);
    meter.read(most, false).unwrap();
    assert_eq!(meter.read(1, false), Err(Overrun::Unproven(most)));
}

/// PING and SETTINGS leave no state, but they cost time to read.
#[test]
fn what_comes_over_http2_before_any_proof_is_bounded_in_all() {
    let budget = budget();
    let (stranger, caller) = (purse(&budget, false), purse(&budget, true));
    let mut meter = Meter::new(&stranger, 64 * KIB);
    let most = narrow(UNIDENTIFIED_TOTAL);
    for _ in 0..most / KIB {
        meter.read(KIB, true).unwrap();
    }
    assert_eq!(meter.read(1, true), Err(Overrun::Unproven(most)));
    let mut meter = Meter::new(&caller, 64 * KIB);
    for _ in 0..2 * most / KIB {
        meter.read(KIB, true).unwrap();
    }
}

#[test]
fn whatever_is_read_is_refused_when_memory_is_short() {
    let budget = budget();
    let (honest, hog) = (purse(&budget, true), purse(&budget, true));
    let mut other = purse(&budget, false).charge();
    while other.set(other.bytes() + 16 * KIB).is_ok() {}
    let short = |read| matches!(read, Err(Overrun::Short(_)));
    let mut meter = Meter::new(&honest, 64 * KIB);
    meter.read_head(60 * KIB, 0).unwrap();
    drop(other);
    let mut hog = hog.charge();
    while hog.set(hog.bytes() + 16 * KIB).is_ok() {}
    assert!(short(meter.read(128 * KIB, false)));
    assert!(short(meter.read_head(128 * KIB, 0)));
}

#[rstest]
#[case::http1(Version::HTTP_11, false)]
#[case::http2(Version::HTTP_2, true)]
fn a_request_over_http2_holds_its_head(#[case] version: Version, #[case] charged: bool) {
    let budget = budget();
    let purse = purse(&budget, true);
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.version = version;
    let long = HeaderValue::try_from("x".repeat(60 * KIB)).unwrap();
    parts.headers.insert("x-long", long);
    let held = in_progress(&purse, &parts, &SizeHint::with_exact(0)).unwrap();
    assert_eq!(held.is_some_and(|held| held.bytes() > 60 * KIB), charged);
}

#[rstest]
#[case::none(Some(0), 0)]
#[case::small(Some(8), 0)]
#[case::some(Some(20), 20)]
#[case::much(Some(1 << 20), 64)]
#[case::unknown(None, 64)]
fn a_request_holds_what_its_upstream_does_not_take(
    #[case] kib: Option<u64>,
    #[case] expected: usize,
) {
    let budget = budget();
    let purse = purse(&budget, true);
    let (parts, ()) = Request::new(()).into_parts();
    let size = kib.map_or_else(SizeHint::new, |kib| SizeHint::with_exact(1024 * kib));
    let held = in_progress(&purse, &parts, &size).unwrap();
    assert_eq!(held.map_or(0, |held| held.bytes()), expected * KIB);
}
