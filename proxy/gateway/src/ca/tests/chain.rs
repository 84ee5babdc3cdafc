//! What a verifier accepts, and what it must not.

use countersign_pki::Validity;
use rcgen::SanType;
use rstest::rstest;
use x509_parser::extensions::GeneralName;

use super::*;

#[rstest]
#[case::exact("slack.com")]
#[case::wildcard("wss-primary.slack.com")]
#[case::v4("192.0.2.7")]
#[case::v6("2001:db8::7")]
#[case::long(&format!("{}.example.com", "a".repeat(63)))]
fn a_client_accepts_the_leaf_of_an_intercepted_host(#[case] name: &str) {
    let fixture = Fixture::new(&[
        "slack.com",
        "wss*.slack.com",
        "192.0.2.7",
        "2001:db8::7",
        "*.example.com",
    ]);
    let session = fixture.greet(name).unwrap();
    assert_eq!(
        session.chain.len(),
        2,
        "leaf and intermediate, not the root"
    );
    assert_eq!(session.alpn.as_deref(), Some(b"h2".as_slice()));
    assert_eq!(session.kind, HandshakeKind::Full);
}

#[rstest]
#[case("notslack.com")]
#[case("slack.com.evil.test")]
#[case("com")]
#[case::below_an_exact_host("api.slack.com")]
#[case::not_the_wildcard_label("x.wss.slack.com")]
#[case::another_address("192.0.2.8")]
#[case::mapped_address("::ffff:192.0.2.7")]
fn no_leaf_is_minted_for_another_host(#[case] name: &str) {
    let fixture = Fixture::new(&["slack.com", "wss*.slack.com", "192.0.2.7"]);
    let refused = fixture.ca.leaf(&host(name));
    assert!(
        matches!(refused, Err(CaError::NotIntercepted(_))),
        "{refused:?}"
    );
}

#[test]
fn a_leaf_is_good_for_its_own_host_only() {
    let fixture = Fixture::new(&["slack.com", "files.slack.com"]);
    let server = fixture.ca.leaf(&host("files.slack.com")).unwrap();
    let refused = handshake(fixture.client().into(), server, "slack.com").unwrap_err();
    assert!(
        format!("{refused:?}").contains("NotValidForName"),
        "{refused:?}"
    );
}

/// What a thief of the intermediate can try: its key signs anything, but clients refuse it.
/// Threat 33 is here: a wildcard is wider than the exact host that the constraint permits.
#[rstest]
#[case::another_name(&["slack.com"], "evil.test", "evil.test")]
#[case::a_name_that_ends_alike(&["slack.com"], "notslack.com", "notslack.com")]
#[case::the_parent(&["api.qase.io"], "qase.io", "qase.io")]
#[case::wildcard_over_the_host(&["api.qase.io"], "*.qase.io", "evil.qase.io")]
#[case::wildcard_that_covers_the_host(&["api.qase.io"], "*.qase.io", "api.qase.io")]
#[case::an_address_where_only_names(&["slack.com"], "192.0.2.7", "192.0.2.7")]
#[case::v6_where_only_names(&["slack.com"], "2001:db8::7", "2001:db8::7")]
#[case::v6_where_names_and_v4(&["slack.com", "192.0.2.7"], "2001:db8::7", "2001:db8::7")]
#[case::v4_where_names_and_v6(&["slack.com", "2001:db8::7"], "192.0.2.7", "192.0.2.7")]
#[case::another_address(&["192.0.2.7"], "192.0.2.8", "192.0.2.8")]
#[case::a_name_where_only_addresses(&["192.0.2.7"], "slack.com", "slack.com")]
fn a_forged_leaf_is_refused_by_the_name_constraints(
    #[case] hosts: &[&str],
    #[case] forged: &str,
    #[case] asked: &str,
) {
    let fixture = Fixture::new(hosts);
    let name = match forged.parse() {
        Ok(ip) => SanType::IpAddress(ip),
        Err(_) => SanType::DnsName(forged.try_into().unwrap()),
    };
    let thief = fixture.ca.intermediate.load_full().unwrap();
    let day = Validity::starting(start(), SignedDuration::from_hours(24));
    let stolen = thief.presented(thief.sign(name, None, day).unwrap());
    let server = fixture.ca.template.serve(&host(asked), stolen).into();
    let refused = handshake(fixture.client().into(), server, asked).unwrap_err();
    assert!(
        format!("{refused:?}").contains("NameConstraintViolation"),
        "{refused:?}"
    );
}

/// The counterpart of the refusals above: the same forging is accepted inside the constraints,
/// so it is the constraints that refuse.
#[test]
fn what_x509_cannot_exclude_is_a_name_below_an_intercepted_one() {
    let fixture = Fixture::new(&["slack.com"]);
    assert!(fixture.ca.leaf(&host("evil.slack.com")).is_err());
    let intermediate = fixture.ca.intermediate.load_full().unwrap();
    let forged = intermediate
        .mint(&host("evil.slack.com"), &fixture.ca.template, start())
        .unwrap();
    handshake(fixture.client().into(), forged.config(), "evil.slack.com").unwrap();
}

#[test]
fn the_certificates_say_what_they_are_for_and_no_more() {
    let fixture = Fixture::new(&["slack.com"]);
    let chain = fixture.greet("slack.com").unwrap().chain;
    let root = CertificateDer::from_pem_slice(fixture.ca.root_pem().as_bytes()).unwrap();
    let parse = |der| x509_parser::parse_x509_certificate(der).unwrap().1;
    let (leaf, intermediate, root) = (parse(&chain[0]), parse(&chain[1]), parse(&root));

    let basic = |certificate: &x509_parser::certificate::X509Certificate<'_>| {
        let extension = certificate.basic_constraints().unwrap().unwrap();
        assert!(extension.critical);
        (extension.value.ca, extension.value.path_len_constraint)
    };
    assert_eq!(basic(&root), (true, Some(1)));
    assert_eq!(basic(&intermediate), (true, Some(0)));
    assert_eq!(basic(&leaf), (false, None));

    assert!(root.extended_key_usage().unwrap().is_none());
    for certificate in [&intermediate, &leaf] {
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth && !usage.any && !usage.code_signing);
    }
    assert!(!leaf.key_usage().unwrap().unwrap().value.key_cert_sign());
    assert!(intermediate.name_constraints().unwrap().unwrap().critical);
    let names = leaf.subject_alternative_name().unwrap().unwrap().value;
    assert_eq!(names.general_names, [GeneralName::DNSName("slack.com")]);

    let keys = [&leaf, &intermediate, &root].map(|certificate| certificate.public_key().raw);
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
}

#[test]
fn no_certificate_outlives_its_issuer_or_starts_before_it() {
    let fixture = Fixture::new(&["slack.com"]);
    // Far into the root's last week, where an intermediate is cut short.
    fixture.clock.set("2036-11-19T23:00:00Z".parse().unwrap());
    let chain = fixture.greet("slack.com").unwrap().chain;
    let root = CertificateDer::from_pem_slice(fixture.ca.root_pem().as_bytes()).unwrap();
    let [leaf, intermediate, root] = [&chain[0], &chain[1], &root]
        .map(|der| Validity::of(&x509_parser::parse_x509_certificate(der).unwrap().1).unwrap());
    assert_eq!(intermediate.not_after, root.not_after);
    for (inner, outer) in [(leaf, intermediate), (intermediate, root)] {
        assert!(outer.not_before <= inner.not_before && inner.not_after <= outer.not_after);
    }
}

#[test]
fn a_client_whose_clock_is_half_an_hour_behind_accepts_a_new_leaf() {
    let fixture = Fixture::new(&["slack.com"]);
    let server = fixture.ca.leaf(&host("slack.com")).unwrap();
    fixture.forward(SignedDuration::from_mins(-30));
    handshake(fixture.client().into(), server, "slack.com").unwrap();
}

#[test]
fn serial_numbers_are_random() {
    let fixture = Fixture::new(&["a.example.com", "b.example.com"]);
    let serial = |name| {
        let chain = fixture.greet(name).unwrap().chain;
        x509_parser::parse_x509_certificate(&chain[0])
            .unwrap()
            .1
            .raw_serial()
            .to_vec()
    };
    let (one, other) = (serial("a.example.com"), serial("b.example.com"));
    assert_eq!((one.len(), other.len()), (16, 16));
    assert_ne!(one, other);
}
