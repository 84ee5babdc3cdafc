use rstest::rstest;

use super::*;

fn options() -> RedirectOptions {
    RedirectOptions {
        uid: 1337,
        gid: 1337,
        port: 15001,
        ..RedirectOptions::default()
    }
}

fn full() -> Redirection {
    Redirection::new(RedirectOptions {
        exclude_ports: vec![53, 22, 53],
        exclude_networks: vec![
            "10.0.0.7/8".parse().unwrap(),
            "fd00::/8".parse().unwrap(),
            "192.0.2.1/32".parse().unwrap(),
        ],
        ..options()
    })
    .unwrap()
}

fn chosen() -> Redirection {
    Redirection::new(RedirectOptions {
        only_ports: vec![8443, 443, 80],
        exclude_ports: vec![80],
        ..options()
    })
    .unwrap()
}

#[rstest]
#[case("everything", full())]
#[case("chosen_ports", chosen())]
fn nft_rules(#[case] name: &str, #[case] redirection: Redirection) {
    insta::assert_snapshot!(format!("nft_{name}"), nft::ruleset(&redirection));
}

#[rstest]
#[case("everything_v4", full(), Family::V4)]
#[case("everything_v6", full(), Family::V6)]
#[case("chosen_ports_v4", chosen(), Family::V4)]
fn iptables_rules(#[case] name: &str, #[case] redirection: Redirection, #[case] family: Family) {
    let rules = iptables::rules(&redirection, family, iptables::Present::default());
    insta::assert_snapshot!(format!("iptables_{name}"), rules);
}

#[test]
fn a_jump_that_is_there_is_not_added_again() {
    let saved = "*nat\n:OUTPUT ACCEPT [0:0]\n:COUNTERSIGN_REDIRECT - [0:0]\n\
                 -A OUTPUT -p tcp -j COUNTERSIGN_REDIRECT\nCOMMIT\n";
    let present = iptables::Present::read(saved);
    let rules = iptables::rules(&full(), Family::V4, present);
    assert!(!rules.contains("OUTPUT 1 -p tcp"), "{rules}");
    assert!(rules.contains("OUTPUT 1 -p udp"), "{rules}");
    insta::assert_snapshot!("iptables_removal", iptables::removal(present));
}

#[test]
fn quic_is_left_alone_where_its_fallback_is() {
    let redirection = Redirection::new(RedirectOptions {
        only_ports: vec![80],
        ..options()
    });
    let rules = nft::ruleset(&redirection.unwrap());
    assert!(!rules.contains("udp"), "{rules}");
}

#[rstest]
#[case::root(RedirectOptions { uid: 0, ..options() }, RedirectError::Root("uid"))]
#[case::roots_group(RedirectOptions { gid: 0, ..options() }, RedirectError::Root("gid"))]
#[case::no_port(RedirectOptions { port: 0, ..options() }, RedirectError::PortZero)]
#[case::nothing_left(
    RedirectOptions { only_ports: vec![443], exclude_ports: vec![443, 53], ..options() },
    RedirectError::Nothing
)]
#[case::every_address(
    RedirectOptions { exclude_networks: vec!["0.0.0.0/0".parse().unwrap()], ..options() },
    RedirectError::Everywhere("0.0.0.0/0".parse().unwrap())
)]
fn what_would_let_everything_pass_is_refused(
    #[case] options: RedirectOptions,
    #[case] error: RedirectError,
) {
    assert_eq!(Redirection::new(options), Err(error));
}
