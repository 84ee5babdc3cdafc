//! What an operator reads of a host that nothing matches.

use rstest::rstest;

use super::*;

#[rstest]
#[case::misspelt("slakc.com", 443, ": the nearest is slack.com of the target slack")]
#[case::below("edge.files.slack.com", 443, "slack.com of the target slack")]
#[case::another_api("app.qase.io", 443, ": the nearest is api.qase.io of the target qase")]
#[case::another_port(
    "slack.com",
    8443,
    ": the target slack has this host at the ports 443, and not at 8443"
)]
#[case::nothing_alike("example.com", 443, "")]
#[case::a_lookalike("slack.com.evil.test", 443, "")]
#[case::an_address("192.0.2.7", 443, "")]
fn the_nearest_host_is_named(#[case] host: &str, #[case] port: u16, #[case] told: &str) {
    let host = Host::parse(host).unwrap();
    let nearest = nightly().nearest_host(&host, port);
    assert!(nearest.ends_with(told), "{nearest}");
    assert_eq!(nearest.is_empty(), told.is_empty(), "{nearest}");
}

#[test]
fn a_target_that_no_policy_uses_is_named() {
    let who = dashboard();
    let policies = set(slice::from_ref(&who), vec![reads_qase(&who)]);
    let nearest = policies.nearest_host(&Host::parse("slack.com").unwrap(), 443);
    assert_eq!(
        nearest,
        ": the target slack has it, and no AccessPolicy uses that target"
    );
}
