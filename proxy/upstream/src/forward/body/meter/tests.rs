use countersign_core::{
    budget::{Budget, Purse},
    metrics::Metrics,
};
use rstest::rstest;

use super::*;

#[rstest]
#[case::within(100, 64, Ok(()))]
#[case::too_large(101, 64, Err(NotKept::TooLarge))]
#[case::no_memory(100 * 1024, 256 * 1024, Err(NotKept::Short))]
fn what_is_kept_in_small_pieces_is_whole_or_not_kept(
    #[case] length: usize,
    #[case] room: usize,
    #[case] kept: Result<(), NotKept>,
) {
    let budget = Budget::new(96 * 1024, &Metrics::new());
    let purse = budget.admit().unwrap();
    let meter = BodyMeter::keeping(room.max(100), purse.charge());
    let body: Vec<u8> = (0..length)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    let source = Bytes::from(body.clone());
    for at in 0..length {
        meter.keep(&source.slice(at..=at));
    }
    meter.set(COMPLETE | ENDED);
    assert_eq!(meter.take_kept().map(|whole| assert_eq!(whole, body)), kept);
}

#[test]
fn what_is_kept_is_given_back_with_the_meter() {
    let purse = Purse::unshared();
    let before = purse.in_use();
    let meter = BodyMeter::keeping(64 * 1024, purse.charge());
    meter.keep(&Bytes::from(vec![1; 60 * 1024]));
    assert!(purse.in_use() >= 60 * 1024);
    meter.forget_kept();
    assert_eq!(purse.in_use(), before);
}
