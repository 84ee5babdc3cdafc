use std::net::IpAddr;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn host(text: &str) -> Host {
    Host::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn pattern(text: &str) -> HostPattern {
    HostPattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[rstest]
#[case::plain("slack.com", "slack.com")]
#[case::case_and_root_dot("Slack.COM.", "slack.com")]
#[case::single_label("localhost", "localhost")]
#[case::underscore("my_bucket.example.com", "my_bucket.example.com")]
#[case::a_label("XN--MNCHEN-3YA.de", "xn--mnchen-3ya.de")]
#[case::hyphens_in_third_and_fourth_place("r3---sn.example.com", "r3---sn.example.com")]
#[case::digits_first("1.example.com", "1.example.com")]
#[case::number_like_but_not_last("0x7f.example", "0x7f.example")]
#[case::ipv4("192.0.2.7", "192.0.2.7")]
#[case::ipv6_bare("2001:DB8::1", "[2001:db8::1]")]
#[case::ipv6_brackets("[2001:db8:0:0::1]", "[2001:db8::1]")]
#[case::v4_mapped_stays_ipv6("::ffff:127.0.0.1", "[::ffff:127.0.0.1]")]
fn a_host_has_one_spelling(#[case] written: &str, #[case] canonical: &str) {
    assert_eq!(host(written).to_string(), canonical);
    assert_eq!(host(canonical), host(written));
}

#[rstest]
#[case::empty("")]
#[case::only_a_dot(".")]
#[case::two_dots("slack.com..")]
#[case::empty_label("slack..com")]
#[case::leading_dot(".slack.com")]
#[case::space("slack.com ")]
#[case::inner_space("sla ck.com")]
#[case::tab("slack.com\t")]
#[case::nul("slack.com\0")]
#[case::userinfo("user@slack.com")]
#[case::port("slack.com:443")]
#[case::path("slack.com/")]
#[case::percent("sl%61ck.com")]
#[case::wildcard("*.slack.com")]
#[case::u_label("m\u{fc}nchen.de")]
#[case::cyrillic("sl\u{430}ck.com")]
#[case::full_width_dot("slack\u{3002}com")]
#[case::full_width_digits("\u{ff11}27.0.0.1")]
#[case::leading_hyphen("-slack.com")]
#[case::trailing_hyphen("slack-.com")]
#[case::a_label_that_does_not_decode("xn--a.com")]
#[case::a_label_of_ascii("xn--slack-.com")]
#[case::a_label_empty("xn--.com")]
#[case::a_label_of_upper_case("xn--mnchen-psa.de")]
#[case::a_label_of_full_width("xn--mi7c.com")]
#[case::a_label_of_zero_width("xn--ab-g1t.com")]
#[case::brackets_around_a_name("[slack.com]")]
#[case::brackets_around_ipv4("[127.0.0.1]")]
#[case::bracket_open("[::1")]
#[case::bracket_closed("::1]")]
#[case::text_behind_bracket("[::1]x")]
#[case::zone("fe80::1%eth0")]
#[case::zone_in_brackets("[fe80::1%25eth0]")]
#[case::ipv4_short("127.1")]
#[case::ipv4_one_number("2130706433")]
#[case::ipv4_hex("0x7f000001")]
#[case::ipv4_hex_upper("0X7F000001")]
#[case::ipv4_hex_last("127.0.0.0x1")]
#[case::ipv4_bare_0x("127.0.0.0x")]
#[case::ipv4_octal("0177.0.0.1")]
#[case::ipv4_leading_zero("127.0.0.01")]
#[case::ipv4_trailing_dot("127.0.0.1.")]
#[case::ipv4_too_large("256.0.0.1")]
#[case::ipv4_five_numbers("1.2.3.4.5")]
#[case::name_with_numeric_tld("slack.123")]
fn what_could_be_understood_differently_is_no_host(#[case] text: &str) {
    assert!(Host::parse(text).is_err(), "{text:?} was taken");
}

#[test]
fn lengths_are_bounded_at_their_edge() {
    let label = "a".repeat(63);
    assert!(Host::parse(&label).is_ok());
    assert!(Host::parse(&format!("{label}a")).is_err());
    let name = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    assert_eq!(name.len(), 253);
    assert!(Host::parse(&name).is_ok());
    assert!(Host::parse(&format!("{name}.")).is_ok());
    assert!(Host::parse(&format!("{name}b")).is_err());
}

#[rstest]
#[case::exact("slack.com", "slack.com", true)]
#[case::exact_prefixed("slack.com", "notslack.com", false)]
#[case::exact_suffixed("slack.com", "slack.com.evil.test", false)]
#[case::exact_subdomain("slack.com", "x.slack.com", false)]
#[case::other_case("slack.com", "Slack.COM.", true)]
#[case::part_of_a_label("wss*.slack.com", "wss-primary.slack.com", true)]
#[case::part_may_be_empty("wss*.slack.com", "wss.slack.com", true)]
#[case::part_does_not_cross_a_dot("wss*.slack.com", "wss.evil.slack.com", false)]
#[case::part_keeps_its_prefix("wss*.slack.com", "xwss.slack.com", false)]
#[case::part_keeps_its_suffix("wss*.slack.com", "wss.notslack.com", false)]
#[case::part_needs_the_domain_last("wss*.slack.com", "wss.slack.com.evil.test", false)]
#[case::part_is_no_bare_domain("wss*.slack.com", "slack.com", false)]
#[case::both_sides("api-*-eu.qase.io", "api-acme-eu.qase.io", true)]
#[case::both_sides_empty("api*eu.qase.io", "apieu.qase.io", true)]
#[case::sides_do_not_share("api-*-eu.qase.io", "api-eu.qase.io", false)]
#[case::part_is_no_a_label("x*.example.com", "xn--mnchen-3ya.example.com", false)]
#[case::whole_label("*.example.com", "a.example.com", true)]
#[case::whole_label_is_any("*.example.com", "xn--mnchen-3ya.example.com", true)]
#[case::whole_label_is_not_none("*.example.com", "example.com", false)]
#[case::whole_label_is_one("*.example.com", "a.b.example.com", false)]
#[case::address("192.0.2.7", "192.0.2.7", true)]
#[case::address_is_no_mapped_one("192.0.2.7", "::ffff:192.0.2.7", false)]
#[case::u_label_written("b\u{fc}cher.example", "xn--bcher-kva.example", true)]
fn a_pattern_means(#[case] written: &str, #[case] other: &str, #[case] matches: bool) {
    assert_eq!(pattern(written).matches(&host(other)), matches);
}

#[rstest]
#[case::everything("*")]
#[case::all_of_a_top_level_domain("*.com")]
#[case::no_domain("wss*")]
#[case::two_stars("**.slack.com")]
#[case::two_stars_apart("a*b*.slack.com")]
#[case::not_leftmost("wss.*.slack.com")]
#[case::both_labels("*.*.slack.com")]
#[case::address("*.0.0.1")]
#[case::hyphen_first("-*.slack.com")]
#[case::hyphen_last("*-.slack.com")]
#[case::a_label_part("xn--m*.example.com")]
#[case::port("*.slack.com:443")]
#[case::scheme("https://slack.com")]
#[case::odd_character("w$*.slack.com")]
#[case::address_in_other_digits("\u{ff11}92.0.2.7")]
fn what_is_no_pattern(#[case] text: &str) {
    assert!(HostPattern::parse(text).is_err(), "{text:?} was taken");
}

#[test]
fn a_pattern_that_no_host_can_match_is_an_error() {
    let long = "a".repeat(63);
    assert!(HostPattern::parse(&format!("{long}*.example.com")).is_ok());
    assert!(HostPattern::parse(&format!("{long}a*.example.com")).is_err());
    let full = format!("{long}.{long}.{long}.{}", "b".repeat(61));
    assert!(HostPattern::parse(&format!("*.{full}")).is_err());
}

#[rstest]
#[case("slack.com", "slack.com", true)]
#[case("slack.com", "files.slack.com", false)]
#[case("*.slack.com", "files.slack.com", true)]
#[case("*.slack.com", "slack.com", false)]
#[case("*.slack.com", "wss*.slack.com", true)]
#[case("wss*.slack.com", "w*.slack.com", true)]
#[case("wss*.slack.com", "api*.slack.com", false)]
#[case("*-eu.slack.com", "api*.slack.com", true)]
#[case("*-eu.slack.com", "*-us.slack.com", false)]
#[case("a*-b.slack.com", "a-*b.slack.com", true)]
#[case("*.slack.com", "*.evil.slack.com", false)]
#[case("x*.example.com", "xn--mnchen-3ya.example.com", false)]
#[case("xn-*.example.com", "*-a.example.com", true)]
#[case("192.0.2.7", "192.0.2.7", true)]
fn overlaps(#[case] one: &str, #[case] two: &str, #[case] expected: bool) {
    assert_eq!(pattern(one).overlaps(&pattern(two)), expected);
    assert_eq!(pattern(two).overlaps(&pattern(one)), expected);
}

#[test]
fn overlap_respects_the_longest_label() {
    let long = "a".repeat(40);
    // Sharing characters they fit into 63 bytes; without a shared part they would need 80.
    let one = pattern(&format!("{long}*.example.com"));
    assert!(one.overlaps(&pattern(&format!("*{long}.example.com"))));
    let other = "b".repeat(40);
    assert!(!one.overlaps(&pattern(&format!("*{other}.example.com"))));
}

#[test]
fn shows_what_it_means() {
    for text in [
        "slack.com",
        "wss*.slack.com",
        "*.example.com",
        "[2001:db8::1]",
    ] {
        assert_eq!(pattern(text).to_string(), text);
    }
    assert_eq!(pattern("WSS*.Slack.COM.").to_string(), "wss*.slack.com");
    assert_eq!(pattern("wss*.slack.com").suffix(), Some("slack.com"));
    assert_eq!(pattern("slack.com").exact(), Some(&host("slack.com")));
}

/// Labels over a small alphabet, so that coincidences are common.
fn every_label() -> Vec<String> {
    let alphabet = ['a', 'b', '-', 'x'];
    let mut all = vec![String::new()];
    let mut longest = all.clone();
    for _ in 0..5 {
        longest = longest
            .iter()
            .flat_map(|text| alphabet.map(|letter| format!("{text}{letter}")))
            .collect();
        all.extend(longest.iter().cloned());
    }
    all.retain(|label| check_label(label).is_ok());
    all
}

proptest! {
    #[test]
    fn parsing_never_panics_and_is_idempotent(text in "\\PC{0,80}") {
        if let Ok(parsed) = Host::parse(&text) {
            prop_assert_eq!(Host::parse(&parsed.to_string()), Ok(parsed));
        }
        if let Ok(parsed) = HostPattern::parse(&text) {
            prop_assert_eq!(HostPattern::parse(&parsed.to_string()), Ok(parsed));
        }
    }

    #[test]
    fn addresses_round_trip(ip: IpAddr) {
        prop_assert_eq!(Host::parse(&ip.to_string()), Ok(Host::Ip(ip)));
    }

    /// Two sides of at most two characters each overlap within five characters, if at all.
    #[test]
    fn overlap_is_exact(
        one in "[abx-]{0,2}\\*[abx-]{0,2}",
        two in "[abx-]{0,2}\\*[abx-]{0,2}",
    ) {
        let one = HostPattern::parse(&format!("{one}.example.com"));
        let two = HostPattern::parse(&format!("{two}.example.com"));
        let (Ok(one), Ok(two)) = (one, two) else { return Ok(()) };
        let witness = every_label().into_iter().any(|label| {
            let host = host(&format!("{label}.example.com"));
            one.matches(&host) && two.matches(&host)
        });
        prop_assert_eq!(one.overlaps(&two), witness);
    }
}
