//! The breaker opens on evidence, tries and closes; a rejection of one workload concerns only that
//! workload.

use std::{sync::Arc, time::Duration};

use countersign_config::model::ResourceName;
use tokio::time::advance;

use super::{
    BACK_OFF_LONGEST, BACK_OFF_SHORTEST, HalfOpenPermit, HostHealth, Rejected,
    evidence::MOST_WORKLOADS,
};

fn name(text: &str) -> ResourceName {
    ResourceName::namespaced("qa", text)
}

/// One host, and workloads by name.
#[derive(Default)]
struct Stand(Arc<HostHealth>);

impl Stand {
    fn admit(&self, workload: &str, generation: u64) -> Result<Option<HalfOpenPermit>, Rejected> {
        self.0.admit(&name(workload), generation)
    }

    fn goes(&self, workload: &str, generation: u64) -> bool {
        matches!(self.admit(workload, generation), Ok(None))
    }

    fn held(&self, workload: &str, generation: u64) -> bool {
        self.admit(workload, generation).is_err()
    }

    fn tries(&self, workload: &str, generation: u64) -> bool {
        matches!(self.admit(workload, generation), Ok(Some(_)))
    }

    fn trip(&self, workload: &str, generation: u64) -> Duration {
        self.0.breaker.trip(&name(workload), generation, None).wait
    }

    fn worked(&self, workload: &str, generation: u64) {
        self.0.breaker.worked(&name(workload), generation);
    }
}

#[tokio::test(start_paused = true)]
async fn one_request_in_each_back_off_tries_a_rejected_value() {
    let stand = Stand::default();
    let breaker = &stand.0.breaker;
    assert!(stand.goes("a", 3));
    let mut wait = breaker.trip(&name("a"), 3, Some("token_revoked")).wait;
    for _ in 0..12 {
        let rejected = stand.admit("a", 3).unwrap_err();
        assert_eq!(rejected.said.as_deref(), Some("token_revoked"));
        assert_eq!(rejected.again_in, wait);
        advance(wait.saturating_sub(Duration::from_millis(1))).await;
        assert!(stand.held("a", 3));
        advance(Duration::from_millis(2)).await;
        let trial = stand.admit("a", 3).unwrap().expect("a trial");
        // The others wait for its result.
        for _ in 0..100 {
            assert_eq!(stand.admit("a", 3).unwrap_err().again_in, Duration::ZERO);
        }
        let next = stand.trip("a", 3);
        drop(trial);
        assert!(
            next > wait || next == BACK_OFF_LONGEST,
            "{next:?} after {wait:?}"
        );
        wait = next;
    }
    advance(wait).await;
    let trial = stand.admit("a", 3).unwrap().expect("a trial");
    stand.worked("a", 3);
    drop(trial);
    assert!(stand.goes("a", 3));
    assert_eq!(breaker.rejected(), []);
    // It begins again.
    assert!(stand.trip("a", 3) <= BACK_OFF_SHORTEST * 2);
}

#[tokio::test(start_paused = true)]
async fn another_value_goes_at_once_and_an_old_one_changes_nothing() {
    let stand = Stand::default();
    let first = stand.trip("a", 3);
    // Requests that were in progress when it began.
    for _ in 0..50 {
        assert!(stand.trip("a", 3) <= first);
    }
    assert!(stand.goes("a", 4));
    stand.worked("a", 2);
    assert!(stand.held("a", 3));
    // Also rejected: earlier failures still count.
    assert!(stand.trip("a", 4) >= BACK_OFF_SHORTEST * 2);
    assert!(stand.held("a", 4));
    assert_eq!(stand.trip("a", 3), Duration::ZERO);
    assert!(stand.held("a", 4));
    stand.worked("a", 5);
    assert!(stand.goes("a", 5));
    assert_eq!(stand.0.breaker.rejected(), []);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_came_to_nothing_leaves_the_next_one_free() {
    let stand = Stand::default();
    let wait = stand.trip("a", 1);
    advance(wait).await;
    let trial = stand.admit("a", 1).unwrap().expect("a trial");
    assert!(stand.held("a", 1));
    drop(trial);
    assert!(stand.tries("a", 1));
}

#[tokio::test(start_paused = true)]
async fn what_one_workload_meets_holds_back_no_other() {
    let stand = Stand::default();
    for _ in 0..121 {
        stand.trip("offender", 1);
        assert!(stand.held("offender", 1));
        assert!(stand.goes("honest", 1));
        stand.worked("honest", 1);
        // Its success for others does not release the offender.
        assert!(stand.held("offender", 1));
        advance(Duration::from_mins(6)).await;
    }
    let told = stand.0.breaker.rejected();
    assert_eq!(told[0].workload, Some(name("offender")));
    assert!(told[0].to_string().contains("requests of qa/offender"));
}

#[tokio::test(start_paused = true)]
async fn a_second_workload_that_meets_the_same_holds_back_the_others() {
    let stand = Stand::default();
    stand.trip("a", 1);
    assert!(stand.goes("c", 1));
    stand.trip("b", 1);
    let rejected = stand.admit("c", 1).unwrap_err();
    assert_eq!(rejected.workload, None);
    // Each workload has its own trial, and one that has not tried yet has the next trial for all.
    advance(Duration::from_secs(2)).await;
    let trial = stand.admit("c", 1).unwrap().expect("a trial");
    assert!(!trial.is_for_a_probe());
    assert!(stand.held("d", 1));
    stand.worked("c", 1);
    drop(trial);
    assert!(stand.goes("d", 1));
    // Workloads whose own requests failed may check at once, one at a time.
    assert!(stand.tries("a", 1));
}

#[tokio::test(start_paused = true)]
async fn what_keeps_failing_for_the_same_two_does_not_keep_others_away() {
    let stand = Stand::default();
    let mut waited = Duration::ZERO;
    for _ in 0..40 {
        for offender in ["a", "b"] {
            if stand.tries(offender, 1) || stand.goes(offender, 1) {
                stand.trip(offender, 1);
            }
        }
        advance(Duration::from_secs(20)).await;
        waited += Duration::from_secs(20);
    }
    // They have failed for a quarter of an hour; a new one tries at once.
    assert!(waited > Duration::from_mins(10));
    assert!(stand.tries("honest", 1));
    stand.worked("honest", 1);
    // And continues, whatever others meet from now on.
    for _ in 0..20 {
        stand.trip("a", 1);
        stand.trip("b", 1);
        assert!(stand.goes("honest", 1));
        stand.worked("honest", 1);
        advance(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_that_provoke_it_again_and_again_hold_back_none_for_which_it_works() {
    let stand = Stand::default();
    for _ in 0..100 {
        assert!(stand.goes("honest", 1));
        stand.worked("honest", 1);
        stand.trip("a", 1);
        stand.trip("b", 1);
        assert!(stand.held("stranger", 1), "two have met it");
        assert!(stand.goes("honest", 1));
        // They pause until everything is forgotten, and begin again.
        stand.worked("a", 1);
        stand.worked("b", 1);
        assert!(stand.goes("stranger", 1));
        advance(Duration::from_secs(3)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn evidence_from_before_the_value_worked_does_not_count() {
    let stand = Stand::default();
    stand.trip("a", 1);
    advance(Duration::from_secs(1)).await;
    stand.worked("honest", 1);
    advance(Duration::from_secs(1)).await;
    stand.trip("b", 1);
    assert!(stand.goes("c", 1), "one workload alone has met it since");
    advance(Duration::from_secs(10)).await;
    assert!(stand.tries("a", 1));
    stand.trip("a", 1);
    assert!(stand.held("c", 1), "two have");
    assert!(stand.goes("honest", 1), "for this one it worked");
    advance(Duration::from_mins(11)).await;
    assert!(stand.tries("honest", 1), "but that is long ago");
}

#[tokio::test(start_paused = true)]
async fn what_a_probe_finds_holds_for_all_until_another_finds_otherwise() {
    let stand = Stand::default();
    let breaker = &stand.0.breaker;
    stand.trip("a", 2);
    stand.worked("b", 2);
    breaker.trip_for_all(2, Some("token_revoked"));
    for workload in ["a", "b", "c"] {
        let rejected = stand.admit(workload, 2).unwrap_err();
        assert_eq!(rejected.workload, None);
        assert_eq!(rejected.said.as_deref(), Some("token_revoked"));
    }
    // Found again at once, it does not count twice.
    breaker.trip_for_all(2, None);
    breaker.trip_for_all(1, None);
    advance(Duration::from_millis(1_300)).await;
    let trial = stand.admit("a", 2).unwrap().expect("a trial");
    assert!(trial.is_for_a_probe());
    assert!(stand.held("b", 2));
    breaker.trip_for_all(2, None);
    drop(trial);
    advance(Duration::from_millis(1_300)).await;
    assert!(stand.held("a", 2), "each time for longer");
    advance(Duration::from_secs(2)).await;
    let trial = stand.admit("c", 2).unwrap().expect("a trial");
    breaker.proven(2);
    drop(trial);
    assert!(stand.goes("b", 2) && stand.goes("c", 2));
    // A request that succeeds proves as much.
    breaker.trip_for_all(2, None);
    stand.worked("c", 2);
    assert!(stand.goes("b", 2));
}

#[tokio::test(start_paused = true)]
async fn workloads_are_bounded_in_number_and_forgotten() {
    let stand = Stand::default();
    for number in 0..10_000 {
        stand.trip(&format!("w{number}"), 1);
    }
    assert!(stand.0.breaker.rejected().len() <= MOST_WORKLOADS + 1);
    let stand = Stand::default();
    stand.trip("gone", 1);
    advance(Duration::from_mins(12)).await;
    stand.worked("honest", 1);
    assert_eq!(stand.0.breaker.rejected(), []);
}

/// A trial that shows nothing, as when the API answers 500, is over: nobody tries at that moment.
#[tokio::test(start_paused = true)]
async fn what_is_told_of_a_rejection_is_what_happens() {
    let stand = Stand::default();
    let breaker = &stand.0.breaker;
    let told = || breaker.rejected()[0].to_string();
    assert!(breaker.trip(&name("a"), 1, Some("invalid_auth")).is_news);
    assert!(!breaker.trip(&name("a"), 1, None).is_news);
    assert!(told().contains("tried again in "), "{}", told());
    advance(Duration::from_secs(2)).await;
    assert!(
        told().contains("(generation 1, `invalid_auth`, 2 s ago)"),
        "{}",
        told()
    );
    assert!(told().contains("by the next request"), "{}", told());
    let trial = stand.admit("a", 1).unwrap().expect("a trial");
    assert!(
        told().contains("by another request at this moment"),
        "{}",
        told()
    );
    drop(trial);
    assert!(told().contains("by the next request"), "{}", told());
    assert_eq!(breaker.last_rejection().unwrap().works_since, None);

    assert!(breaker.worked(&name("a"), 2), "it is over");
    assert!(!breaker.worked(&name("a"), 2), "once");
    let last = breaker.last_rejection().unwrap();
    assert!(last.works_since.is_some());
    assert_eq!(
        (last.generation, last.said.as_deref()),
        (1, Some("invalid_auth"))
    );
    assert!(breaker.trip(&name("a"), 2, None).is_news);
    breaker.trip_for_all(2, None);
    assert!(breaker.proven(2), "a probe ends it too");
}
