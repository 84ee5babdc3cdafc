//! Bodies that are had back.

use std::sync::Arc;

use countersign_core::budget::Purse;
use http_body_util::BodyExt;
use rstest::rstest;

use super::support::{self, client_body, soon};
use crate::forward::{BodyMeter, NotKept, RequestBody};

#[tokio::test]
async fn a_body_that_is_had_back_begins_anew() {
    let (incoming, mut client) = client_body(10).await;
    let meter = Arc::new(BodyMeter::keeping(10, Purse::unshared().charge()));
    let mut first = RequestBody::streaming(incoming, Arc::clone(&meter));
    let spare = first.spare();
    support::send(&mut client, b"hello").await;
    let piece = soon(first.frame()).await.unwrap().unwrap();
    assert_eq!(piece.into_data().unwrap(), "hello");
    let second = spare.reclaim().unwrap();
    assert_eq!(meter.bytes(), 0);
    // Whoever had it before gets no more of it, and does not end it.
    assert!(soon(first.frame()).await.unwrap().is_err());
    drop(first);
    assert!(!meter.ended() && !meter.failed());
    support::send(&mut client, b"world").await;
    let whole = soon(second.collect()).await.unwrap().to_bytes();
    assert_eq!(whole, "helloworld");
    assert_eq!(meter.bytes(), 10);
    // It is kept as if it had been sent once.
    assert_eq!(meter.take_kept().unwrap(), "helloworld");
}

#[rstest]
#[case::nothing_is_kept(0)]
#[case::less_is_kept(4)]
#[tokio::test]
async fn a_body_of_which_some_is_gone_is_not_had_back(#[case] kept: usize) {
    let (incoming, mut client) = support::chunked_body().await;
    let meter = Arc::new(match kept {
        0 => BodyMeter::default(),
        kept => BodyMeter::keeping(kept, Purse::unshared().charge()),
    });
    let mut body = RequestBody::streaming(incoming, meter);
    let spare = body.spare();
    support::send(&mut client, b"5\r\nhello\r\n").await;
    soon(body.frame()).await.unwrap().unwrap();
    assert_eq!(spare.reclaim().unwrap_err(), NotKept::TooLarge);
}

#[tokio::test]
async fn a_body_of_which_nothing_was_taken_is_had_back_however_large() {
    let (incoming, mut client) = client_body(5).await;
    let mut first = RequestBody::streaming(incoming, Arc::default());
    let spare = first.spare();
    drop(first);
    let second = spare.reclaim().unwrap();
    support::send(&mut client, b"hello").await;
    assert_eq!(soon(second.collect()).await.unwrap().to_bytes(), "hello");
}

#[tokio::test]
async fn a_whole_body_is_had_back_at_any_time() {
    let mut first = RequestBody::full("hello".into(), Arc::default());
    let spare = first.spare();
    first.frame().await.unwrap().unwrap();
    drop(first);
    let second = spare.reclaim().unwrap();
    assert_eq!(second.collect().await.unwrap().to_bytes(), "hello");
}
