use std::time::Duration;

use futures_util::FutureExt as _;
use rstest::rstest;
use tokio::time::Instant;

use super::*;
use crate::wire::connection_state::{ConnectionState, InFlightGuard};

const NODE: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

fn slots(identified: usize, strangers: usize, per_source: usize) -> Slots {
    let bounds = Bounds {
        identified,
        strangers,
        per_source,
    };
    Slots::new(bounds, Some(Metrics::new()))
}

/// A stranger that has said nothing of use yet.
fn enter(slots: &Slots, from: &str) -> Slot {
    let slot = arrive(slots, from);
    slot.place.looked_at();
    slot
}

/// A stranger that was not looked at yet.
fn arrive(slots: &Slots, from: &str) -> Slot {
    slots.enter(&"proxy".into(), from.parse().unwrap())
}

fn why(slot: &Slot) -> Option<Shed> {
    slot.shed().now_or_never()
}

fn workload(name: &str) -> Share {
    Share::Workload(ResourceName::cluster_wide(name))
}

/// A connection of a workload, with a request in progress or without.
fn proven(
    slots: &Slots,
    name: &str,
    busy: bool,
) -> (Slot, Arc<ConnectionState>, Option<InFlightGuard>) {
    let slot = enter(slots, NODE);
    let connection_state = ConnectionState::new();
    slot.follow(&connection_state);
    slot.prove(|| workload(name)).unwrap();
    let busy = busy.then(|| connection_state.begin());
    (slot, connection_state, busy)
}

#[test]
fn the_oldest_stranger_gives_way_to_a_newcomer() {
    let slots = slots(9, 2, 2);
    let all = [NODE, NODE, NODE].map(|from| enter(&slots, from));
    assert_eq!(
        all.each_ref().map(why),
        [Some(Shed::SourceFull), None, None]
    );
    assert_eq!(slots.open(), (2, 0));
}

#[test]
fn it_is_told_who_gives_way_and_from_where() {
    let slots = slots(9, 1, 1);
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    slots.tell(move |proven, source, why| log.lock().unwrap().push((proven, source, why)));
    let _open = [NODE, NODE, "2001:db8::1"].map(|from| enter(&slots, from));
    let node = NODE.parse().unwrap();
    let expected = [
        (false, node, Shed::SourceFull),
        (false, node, Shed::ListenerFull),
    ];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[test]
fn the_source_that_has_most_gives_way_for_another() {
    let slots = slots(9, 3, 3);
    let first = enter(&slots, OTHER);
    let flood = [NODE, NODE].map(|from| enter(&slots, from));
    let newcomer = enter(&slots, OTHER);
    assert_eq!(why(&first), None);
    assert_eq!(flood.each_ref().map(why), [Some(Shed::ListenerFull), None]);
    assert_eq!(why(&newcomer), None);
}

#[test]
fn where_each_source_has_one_the_oldest_gives_way() {
    let slots = slots(9, 2, 2);
    let all = ["203.0.113.9", NODE, OTHER].map(|from| enter(&slots, from));
    assert_eq!(
        all.each_ref().map(why),
        [Some(Shed::ListenerFull), None, None]
    );
}

#[rstest]
#[case::one_network("2001:db8::1", "2001:db8::ffff", true)]
#[case::two_networks("2001:db8:0:1::1", "2001:db8:0:2::1", false)]
#[case::two_addresses("192.0.2.1", "192.0.2.2", false)]
#[case::mapped("192.0.2.1", "::ffff:192.0.2.1", true)]
fn a_source_is_an_address_or_a_network_of_ipv6(
    #[case] one: &str,
    #[case] other: &str,
    #[case] same: bool,
) {
    let slots = slots(9, 9, 1);
    let (first, _second) = (enter(&slots, one), enter(&slots, other));
    assert_eq!(why(&first) == Some(Shed::SourceFull), same);
}

#[test]
fn listeners_do_not_take_from_each_other() {
    let slots = slots(9, 1, 1);
    let first = enter(&slots, NODE);
    let _second = slots.enter(&"tls".into(), NODE.parse().unwrap());
    assert_eq!(why(&first), None);
}

/// Who has least to lose is closed first, whoever came first.
#[test]
fn who_was_refused_goes_before_who_is_silent_and_who_asks_goes_last() {
    let slots = slots(9, 4, 4);
    let [asking, greeted, silent, refused] = [NODE; 4].map(|from| enter(&slots, from));
    asking.asks();
    greeted.greeted();
    assert!(!refused.refuse(), "one more try is due");
    for expected in [&refused, &silent, &greeted, &asking] {
        assert_eq!(why(expected), None);
        assert!(slots.evict());
        assert_eq!(why(expected), Some(Shed::Resources));
    }
    assert!(!slots.evict(), "nobody is left");
}

/// Otherwise a flood has each closed before it is its turn to be read.
#[test]
fn who_was_not_looked_at_yet_stays_for_that_and_the_newest_goes() {
    let slots = slots(9, 3, 2);
    let first = [NODE, NODE, NODE].map(|from| arrive(&slots, from));
    assert_eq!(
        first.each_ref().map(why),
        [None, None, Some(Shed::SourceFull)]
    );
    let other = [OTHER, OTHER].map(|from| arrive(&slots, from));
    assert_eq!(other.each_ref().map(why), [None, Some(Shed::ListenerFull)]);
    first[1].place.looked_at();
    let newcomer = arrive(&slots, NODE);
    assert_eq!(why(&first[1]), Some(Shed::SourceFull), "it was silent");
    assert_eq!([&first[0], &newcomer].map(why), [None, None]);
    assert_eq!(slots.open(), (3, 0));
}

#[test]
fn a_proven_connection_never_gives_way_to_strangers() {
    let slots = slots(9, 1, 1);
    let (proven, ..) = proven(&slots, "a", false);
    let _flood = [NODE; 5].map(|from| enter(&slots, from));
    assert!(slots.evict());
    assert!(!slots.evict());
    assert_eq!(why(&proven), None);
    assert_eq!(slots.open(), (0, 1));
}

#[test]
fn places_are_given_back() {
    let slots = slots(9, 9, 9);
    let stranger = enter(&slots, NODE);
    let (proven, ..) = proven(&slots, "a", false);
    assert_eq!(slots.open(), (1, 1));
    drop(stranger);
    drop(proven);
    assert_eq!(slots.open(), (0, 0));
    let taken = slots.taken();
    assert!(
        format!("{taken:?}").len() < 200,
        "something is left: {taken:?}"
    );
}

#[test]
fn a_stranger_has_one_more_try_and_whoever_was_proven_none() {
    let slots = slots(9, 9, 9);
    let stranger = enter(&slots, NODE);
    assert!(!stranger.refuse());
    assert!(stranger.refuse());
    let slot = enter(&slots, NODE);
    assert!(!slot.refuse());
    slot.prove(|| workload("a")).unwrap();
    assert!(slot.refuse());
}

#[tokio::test(start_paused = true)]
async fn a_workload_below_its_share_takes_from_one_beyond_its_own() {
    let slots = slots(4, 9, 9);
    let hog: Vec<_> = (0..4).map(|_| proven(&slots, "hog", true)).collect();
    let other = proven(&slots, "other", true);
    let gone: Vec<_> = hog.iter().map(|(slot, ..)| why(slot)).collect();
    assert_eq!(gone, [None, None, None, Some(Shed::Share)], "the newest");
    assert_eq!(hog[3].1.why_shed(), Some(Shed::Share), "its requests know");
    assert_eq!(why(&other.0), None);
    assert_eq!(slots.open(), (0, 4));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_rests_gives_way_before_one_that_is_busy() {
    let slots = slots(3, 9, 9);
    let resting = proven(&slots, "hog", false);
    tokio::time::advance(Duration::from_secs(1)).await;
    let rested_less = proven(&slots, "hog", false);
    let busy = proven(&slots, "hog", true);
    let _other = proven(&slots, "other", true);
    let gone = [&resting, &rested_less, &busy].map(|(slot, ..)| why(slot));
    assert_eq!(gone, [Some(Shed::Share), None, None]);
}

#[tokio::test(start_paused = true)]
async fn a_workload_with_its_share_is_refused_and_others_keep_theirs() {
    let slots = slots(4, 9, 9);
    let first: Vec<_> = (0..2).map(|_| proven(&slots, "a", true)).collect();
    let second: Vec<_> = (0..2).map(|_| proven(&slots, "b", true)).collect();
    let more = enter(&slots, NODE);
    assert_eq!(more.prove(|| workload("a")), Err(NoPlace { most: 4 }));
    assert!(!more.is_proven());
    for (slot, ..) in first.iter().chain(&second) {
        assert_eq!(why(slot), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_workload_with_its_share_replaces_what_rests_of_its_own() {
    let slots = slots(2, 9, 9);
    let own = proven(&slots, "a", false);
    let other = proven(&slots, "b", false);
    let _more = proven(&slots, "a", true);
    assert_eq!(why(&own.0), Some(Shed::Share));
    assert_eq!(why(&other.0), None);
}

#[tokio::test(start_paused = true)]
async fn with_more_workloads_than_places_nobody_is_thrown_out() {
    let slots = slots(2, 9, 9);
    let held = [proven(&slots, "a", true), proven(&slots, "b", true)];
    let third = enter(&slots, NODE);
    third.prove(|| workload("c")).unwrap_err();
    assert!(held.iter().all(|(slot, ..)| why(slot).is_none()));
}

#[tokio::test(start_paused = true)]
async fn what_is_free_is_for_whoever_comes() {
    let slots = slots(8, 9, 9);
    let held: Vec<_> = (0..8).map(|_| proven(&slots, "a", true)).collect();
    assert!(held.iter().all(|(slot, ..)| why(slot).is_none()));
}

/// A tunnel keeps the connection around it busy; what counts is what is done in it.
#[tokio::test(start_paused = true)]
async fn a_connection_rests_when_the_tunnels_in_it_rest() {
    let slots = slots(9, 9, 9);
    let (slot, outer, _) = proven(&slots, "a", false);
    let resting = |slot: &Slot| slot.place.resting_since();
    assert_eq!(resting(&slot), Some(Instant::now()));
    let tunnel = outer.begin();
    assert_eq!(resting(&slot), None, "its handshake is not over");
    let inner = ConnectionState::new();
    slot.follow(&inner);
    let request = inner.begin();
    assert_eq!(resting(&slot), None);
    tokio::time::advance(Duration::from_secs(3)).await;
    drop(request);
    assert_eq!(resting(&slot), Some(Instant::now()));
    let again = outer.begin();
    assert_eq!(resting(&slot), None, "a second tunnel, carried unread");
    drop((inner, tunnel, again));
    assert_eq!(resting(&slot), Some(Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn what_runs_on_a_connection_ends_with_its_place() {
    let slots = slots(9, 1, 1);
    let slot = enter(&slots, NODE);
    let served = slot.within(std::future::pending());
    let flood = async { drop(enter(&slots, NODE)) };
    futures_util::join!(served, flood);
}
