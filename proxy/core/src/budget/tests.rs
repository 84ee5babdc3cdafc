use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use rstest::rstest;

use super::*;

const MIB: usize = 1024 * 1024;
const TOTAL: usize = 96 * MIB;

fn budget() -> Budget {
    Budget::new(TOTAL as u64, &Metrics::new())
}

/// A separate account for each name.
fn workload(budget: &Budget, name: &str) -> Arc<Account> {
    budget.0.accounts.of("prod-eu", name)
}

fn purse(budget: &Budget, account: &Arc<Account>) -> Arc<Purse> {
    Purse::open(budget, account, 0).unwrap()
}

/// Reserves all that there is, in chunks.
fn greedy(purse: &Arc<Purse>, piece: usize) -> Charge {
    let mut charge = purse.charge();
    while charge.set(charge.bytes() + piece).is_ok() {}
    charge
}

fn refusals(budget: &Budget, class: &str, reason: &str) -> bool {
    let text = budget.0.metrics.encode().unwrap();
    text.contains(&format!(
        "countersign_memory_refused_total{{class=\"{class}\",reason=\"{reason}\"}}"
    ))
}

#[test]
fn strangers_come_to_a_third_and_a_workload_to_two() {
    let budget = budget();
    let mut strangers = Vec::new();
    while let Ok(purse) = budget.admit() {
        strangers.push(purse);
    }
    let (unidentified, _) = budget.held();
    assert!(unidentified <= TOTAL / 3 && unidentified > TOTAL / 3 - MIB);
    assert!(refusals(&budget, "unidentified", "memory_short"));
    strangers.clear();
    assert_eq!(budget.held(), (0, 0));

    let one = purse(&budget, &workload(&budget, "one"));
    let held = greedy(&one, MIB);
    assert!(held.bytes() <= TOTAL / 3 * 2 && held.bytes() > TOTAL / 3 * 2 - 2 * MIB);
    assert!(refusals(&budget, "workload", "memory_share"));
}

#[test]
fn whoever_comes_later_finds_room() {
    let budget = budget();
    let mut held = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let purse = purse(&budget, &workload(&budget, name));
        held.push(greedy(&purse, 64 * 1024));
    }
    assert!(held.iter().all(|charge| charge.bytes() >= 2 * MIB));
    let (_, workloads) = budget.held();
    assert!(workloads <= TOTAL);
    assert!(budget.admit().is_ok());
}

#[test]
fn what_is_refused_is_not_counted_and_what_is_dropped_is_given_back() {
    let budget = budget();
    let purse = purse(&budget, &workload(&budget, "a"));
    let mut charge = purse.charge();
    charge.set(10 * MIB).unwrap();
    let before = budget.held();
    assert!(charge.set(TOTAL).is_err());
    assert_eq!((budget.held(), charge.bytes()), (before, 10 * MIB));
    charge.set(MIB).unwrap();
    assert!(budget.held().1 < 2 * MIB);
    drop(charge);
    assert_eq!(budget.held().1, 0);
    drop(purse);
    assert_eq!(budget.held(), (0, 0));
}

#[test]
fn small_bodies_do_not_touch_what_all_share() {
    let budget = budget();
    let purse = budget.admit().unwrap();
    let before = budget.held();
    let mut charge = purse.charge();
    charge.set(8 * 1024).unwrap();
    assert_eq!(budget.held(), before);
}

#[test]
fn a_connection_that_is_proven_takes_what_it_holds_along() {
    let budget = budget();
    let purse = budget.admit().unwrap();
    let mut charge = purse.charge();
    charge.set(100 * 1024).unwrap();
    let (unidentified, _) = budget.held();
    assert!(!purse.is_identified());
    purse.belongs_to(&workload(&budget, "a")).unwrap();
    assert!(purse.is_identified());
    assert_eq!(budget.held(), (0, unidentified));
    drop((charge, purse));
    assert_eq!(budget.held(), (0, 0));
}

#[test]
fn one_subject_has_one_account_and_with_two_issuers_two() {
    let budget = budget();
    let subject = "system:serviceaccount:qa:nightly-dashboard";
    let here = budget.account_of("prod-eu", subject);
    let there = budget.account_of("prod-us", subject);
    assert!(Arc::ptr_eq(&here, &budget.account_of("prod-eu", subject)));
    assert!(!Arc::ptr_eq(&here, &there));
}

#[test]
fn strangers_are_closed_for_a_workload_and_one_for_another_stranger() {
    let budget = budget();
    let strangers = Arc::new(std::sync::Mutex::new(Vec::new()));
    let evicted = Arc::new(AtomicUsize::new(0));
    while let Ok(purse) = budget.admit() {
        strangers.lock().unwrap().push(purse);
    }
    let (pool, count) = (Arc::clone(&strangers), Arc::clone(&evicted));
    budget.evict_by(move || {
        count.fetch_add(1, Ordering::Relaxed);
        // Released a little later, as by a task that is told to end.
        pool.lock().unwrap().pop().is_some()
    });
    let newcomer = budget.admit();
    assert!(newcomer.is_ok());
    assert_eq!(evicted.swap(0, Ordering::Relaxed), 1);

    let purse = purse(&budget, &workload(&budget, "a"));
    let held = greedy(&purse, 64 * 1024);
    assert!(evicted.load(Ordering::Relaxed) > 8);
    assert!(held.bytes() >= TOTAL / 2 - MIB, "{}", held.bytes());
    assert!(refusals(&budget, "unidentified", "evicted"));
}

#[tokio::test(start_paused = true)]
async fn the_largest_claim_of_who_holds_most_is_given_up_for_one_below_its_share() {
    let budget = budget();
    let mut held = Vec::new();
    let hog = purse(&budget, &workload(&budget, "hog"));
    for size in [MIB, 24 * MIB, 2 * MIB] {
        let mut charge = hog.charge();
        charge.set_revocable(size).unwrap();
        held.push(charge);
    }
    held.push(greedy(&hog, MIB));
    // Others take the rest, so that nothing is left.
    let others: Vec<_> = (0..4)
        .map(|name| {
            let other = purse(&budget, &workload(&budget, &name.to_string()));
            let mut charge = other.charge();
            charge.set(6 * MIB).unwrap();
            charge
        })
        .collect();
    let late = purse(&budget, &workload(&budget, "late"));
    let mut charge = late.charge();
    charge.set(6 * MIB).unwrap();
    let [small, large, medium, _] = held.as_slice() else {
        unreachable!()
    };
    large.revoked().await;
    assert_eq!(large.given_up().code(), "memory_share");
    for kept in [small, medium] {
        let waited = tokio::time::timeout(std::time::Duration::from_secs(1), kept.revoked());
        assert!(waited.await.is_err());
    }
    assert!(budget.held().1 <= TOTAL + TOTAL / 16);
    drop(others);
}

#[rstest]
#[case::who_holds_most(40 * MIB, "memory_share")]
#[case::who_holds_little(0, "memory_short")]
fn the_reason_tells_whose_fault_it_is(#[case] own: usize, #[case] reason: &str) {
    let budget = budget();
    let mut other = purse(&budget, &workload(&budget, "other")).charge();
    other.set(48 * MIB).unwrap();
    let purse = purse(&budget, &workload(&budget, "a"));
    let mut charge = purse.charge();
    charge.set(own).unwrap_or_default();
    let wish = TOTAL - budget.held().1 + MIB;
    let wish = if own == 0 {
        wish.min(32 * MIB - 1)
    } else {
        wish
    };
    let mut more = purse.charge();
    // So that nothing is left for the small one either.
    let mut third = self::purse(&budget, &workload(&budget, "third")).charge();
    third.set(30 * MIB).unwrap_or_default();
    let short = more.set(wish).unwrap_err();
    assert_eq!(short.code(), reason);
}

#[test]
fn counts_are_right_whoever_takes_at_once() {
    let budget = budget();
    thread::scope(|scope| {
        for name in 0..8 {
            let budget = &budget;
            scope.spawn(move || {
                let purse = purse(budget, &workload(budget, &(name / 2).to_string()));
                for round in 0..2000 {
                    let mut charge = purse.charge();
                    let wish = (round % 64) * 256 * 1024;
                    let taken = charge.set(wish);
                    assert!(taken.is_err() || charge.bytes() == wish);
                    assert!(budget.held().1 <= TOTAL + 8 * 16 * MIB);
                }
            });
        }
    });
    assert_eq!(budget.held(), (0, 0));
}
