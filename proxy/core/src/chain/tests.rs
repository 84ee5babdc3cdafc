//! Each bound, and a chain just within it.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rstest::rstest;

use super::*;

fn of(bytes: usize) -> CertificateDer<'static> {
    vec![0; bytes].into()
}

/// A CA certificate with a key of its own.
fn named(name: &str) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    issuer.der().clone()
}

#[rstest]
#[case::alone(1, Ok(()))]
#[case::the_most(6, Ok(()))]
#[case::one_more(7, Err(ChainError::TooMany(7)))]
#[case::very_many(201, Err(ChainError::TooMany(201)))]
fn t59_certificates_are_counted(
    #[case] certificates: usize,
    #[case] expected: Result<(), ChainError>,
) {
    let rest = vec![of(100); certificates - 1];
    assert_eq!(bounded(&of(100), &rest), expected);
}

#[rstest]
#[case::a_leaf_alone(16_384, &[], Ok(()))]
#[case::a_leaf_one_too_large(16_385, &[], Err(ChainError::TooLarge(16_385)))]
#[case::together(16_382, &[1, 1], Ok(()))]
#[case::together_one_too_many(16_382, &[1, 2], Err(ChainError::TooLarge(16_385)))]
#[case::small_leaf(1, &[16_384], Err(ChainError::TooLarge(16_385)))]
fn t59_bytes_are_counted_over_the_whole_chain(
    #[case] leaf: usize,
    #[case] rest: &[usize],
    #[case] expected: Result<(), ChainError>,
) {
    let rest: Vec<_> = rest.iter().map(|bytes| of(*bytes)).collect();
    assert_eq!(bounded(&of(leaf), &rest), expected);
}

#[rstest]
#[case::all_different(&["a", "b", "c", "d", "e"], Ok(()))]
#[case::two_of_each(&["a", "b", "a", "b", "c"], Ok(()))]
#[case::three(&["a", "b", "a", "c", "a"], Err(ChainError::LookAlikes(3)))]
#[case::all_alike(&["a", "a", "a", "a", "a"], Err(ChainError::LookAlikes(5)))]
fn t59_issuers_of_one_name_are_counted(
    #[case] names: &[&str],
    #[case] expected: Result<(), ChainError>,
) {
    let rest: Vec<_> = names.iter().map(|name| named(name)).collect();
    assert_eq!(bounded(&of(100), &rest), expected);
}

#[test]
fn t59_copies_of_one_certificate_count_as_many() {
    let rest = vec![named("a"); 3];
    assert_eq!(bounded(&of(100), &rest), Err(ChainError::LookAlikes(3)));
}

#[test]
fn the_sentence_says_how_many_and_how_many_there_may_be() {
    assert_eq!(
        ChainError::TooMany(201).to_string(),
        "the chain has 201 certificates, more than 6"
    );
    let error = CertificateError::from(ChainError::TooLarge(20_000));
    assert_eq!(
        ChainError::in_handshake(&error),
        Some(ChainError::TooLarge(20_000))
    );
    assert_eq!(ChainError::in_handshake(&CertificateError::Expired), None);
}
