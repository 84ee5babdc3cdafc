use rstest::rstest;

use super::*;

/// The defaults, in the chart's container.
fn defaults() -> (Limits, u64) {
    let memory = CHART / PART;
    let mut limits = Limits::default();
    fit(&mut limits, memory);
    (limits, memory)
}

#[test]
fn no_holder_of_the_defaults_comes_to_more_than_there_is() {
    let (limits, memory) = defaults();
    assert_eq!(excesses(&limits, memory), []);
    for holder in Holder::all(&limits) {
        let (most, room) = match holder.account {
            Account::Unidentified => (holder.most(memory), unidentified(memory)),
            Account::Workload => (holder.most(memory), alone(memory)),
            Account::Outside => (holder.product(), CHART - memory),
        };
        assert!(most <= room, "{}: {most} > {room}", holder.what);
        // Memory that is reserved from the budget can have any product, but one item must fit.
        assert!(
            holder.one <= room / 2 || holder.many == 1,
            "{}",
            holder.what
        );
    }
}

#[test]
fn what_lies_beside_the_budget_fits_there_and_leaves_a_quarter_to_the_allocator() {
    let (limits, memory) = defaults();
    let beside: u64 = Holder::all(&limits)
        .iter()
        .filter(|holder| holder.account == Account::Outside)
        .map(Holder::product)
        .sum();
    let reserve = CHART - memory;
    assert!(beside <= reserve / 4 * 3, "{beside} of {reserve}");
}

#[rstest]
#[case::connections("connections", |limits: &mut Limits, value| limits.connections = value)]
#[case::strangers("unidentified", |limits: &mut Limits, value| limits.unidentified.connections = value)]
#[case::heads("headBytes", |limits: &mut Limits, value| limits.head_bytes = value)]
#[case::forms("formBytes", |limits: &mut Limits, value| limits.form_bytes = value)]
#[case::replays("replayBytes", |limits: &mut Limits, value| limits.replay_bytes = value)]
#[case::prefixes("inspectBytes", |limits: &mut Limits, value| limits.inspect_bytes = value)]
fn each_bound_that_does_not_fit_is_told_with_one_that_does(
    #[case] key: &str,
    #[case] set: fn(&mut Limits, usize),
) {
    let (mut limits, memory) = defaults();
    set(&mut limits, 1 << 30);
    let found = excesses(&limits, memory);
    let [excess] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(excess.key, key);
    assert!(excess.product > excess.room);
    set(&mut limits, usize::try_from(excess.most).unwrap());
    assert_eq!(excesses(&limits, memory), []);
    set(&mut limits, usize::try_from(excess.most + 1).unwrap());
    assert_eq!(excesses(&limits, memory).len(), 1);
    set(&mut limits, usize::MAX);
    assert_eq!(excesses(&limits, memory).len(), 1);
}

#[test]
fn a_small_container_holds_fewer_connections() {
    let mut limits = Limits::default();
    fit(&mut limits, 32 * MIB);
    assert_eq!(limits.connections, 1024);
    let mut limits = Limits::default();
    fit(&mut limits, 1024 * MIB);
    assert_eq!(limits.connections, Limits::default().connections);
}

#[test]
fn the_document_shows_this_table() {
    let (limits, memory) = defaults();
    let document = include_str!("../../../../docs/budgets.md");
    let table = render(&limits, memory);
    assert!(
        document.contains(&table),
        "docs/budgets.md should have\n{table}"
    );
}

/// The table in the documentation is for the chart's container.
#[test]
fn the_chart_gives_what_the_defaults_are_made_for() {
    let values = include_str!("../../../../deploy/helm/countersign/values.yaml");
    let written = format!("limits: {{ memory: {}Mi }}", CHART / MIB);
    assert!(values.contains(&written));
}
