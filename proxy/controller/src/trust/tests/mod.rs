//! What is decided without an API server: what an account may have, what a Secret must hold, when a step is due.

mod published;

use countersign_pki::{CaKey, Names, Request, Subtree};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
};
use rstest::rstest;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{
    authority::{Authorities, Authority, Root},
    bundle::Bundle,
    names::{AuthorityName, GATEWAY_SIGNER, INTERCEPTION_SIGNER},
    rotation::Position,
    secret::{KeySecret, Value},
    settings::TrustSettings,
    sign::{Purpose, review},
    state::PublicState,
};
use crate::admission::Settings;

const GATEWAY: &str = "system:serviceaccount:countersign:countersign";

fn now() -> Timestamp {
    "2026-12-01T12:00:00Z".parse().unwrap()
}

fn settings() -> TrustSettings {
    let injection = Settings::parse("gateways: [\"countersign.countersign.svc:3128\"]").unwrap();
    TrustSettings::parse("", &injection).unwrap()
}

fn authorities() -> Authorities {
    let root = |name| Authority::new(Root::generate(name, now()).unwrap());
    Authorities {
        interception: root(AuthorityName::Interception),
        gateways: root(AuthorityName::Gateways),
    }
}

/// A gateway's request.
fn asked(user: &str, signer: &str, name: &str) -> CertificateSigningRequest {
    let names: Names = [Subtree::Dns(name.to_owned())].into_iter().collect();
    let key = CaKey::generate().unwrap();
    let request = Request::write(&key, "gateway", &names).unwrap();
    let usages = Purpose::of_signer(signer).unwrap().usages();
    CertificateSigningRequest {
        spec: CertificateSigningRequestSpec {
            request: ByteString(request.into_bytes()),
            signer_name: signer.to_owned(),
            username: Some(user.to_owned()),
            usages: Some(usages.iter().map(|&usage| usage.to_owned()).collect()),
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    }
}

#[rstest]
#[case::intermediate(GATEWAY, INTERCEPTION_SIGNER, "slack.com", None)]
#[case::serving(GATEWAY, GATEWAY_SIGNER, "countersign.countersign.svc", None)]
#[case::another_account(
    "system:serviceaccount:qa:countersign",
    INTERCEPTION_SIGNER,
    "slack.com",
    Some("NotAGateway")
)]
#[case::a_person("admin", INTERCEPTION_SIGNER, "slack.com", Some("NotAGateway"))]
#[case::a_name_of_the_cluster(
    GATEWAY,
    INTERCEPTION_SIGNER,
    "kubernetes.default.svc",
    Some("NameNotPermitted")
)]
#[case::another_service(
    GATEWAY,
    GATEWAY_SIGNER,
    "kubernetes.default.svc",
    Some("NameNotPermitted")
)]
fn an_account_has_what_it_may_have_and_nothing_else(
    #[case] user: &str,
    #[case] signer: &str,
    #[case] name: &str,
    #[case] refused: Option<&str>,
) {
    let purpose = Purpose::of_signer(signer).unwrap();
    let reviewed = review(&asked(user, signer, name), purpose, &settings());
    let code = reviewed.as_ref().err().map(super::sign::SignRefusal::code);
    assert_eq!(code, refused, "{reviewed:?}");
}

#[test]
fn a_request_for_other_usages_is_refused() {
    let mut client = asked(GATEWAY, GATEWAY_SIGNER, "countersign.countersign.svc");
    client.spec.usages = Some(vec!["client auth".to_owned()]);
    let refused = review(&client, Purpose::Serving, &settings()).unwrap_err();
    assert_eq!(refused.code(), "UsagesNotPermitted");
    assert!(refused.to_string().contains("client auth"), "{refused}");
    let mut broken = asked(GATEWAY, GATEWAY_SIGNER, "countersign.countersign.svc");
    broken.spec.request = ByteString(b"nothing".to_vec());
    let refused = review(&broken, Purpose::Serving, &settings()).unwrap_err();
    assert_eq!(refused.code(), "BadRequest");
}

#[test]
fn what_is_signed_lives_for_hours_and_names_its_root() {
    let (authorities, settings) = (authorities(), settings());
    let mut request = asked(GATEWAY, INTERCEPTION_SIGNER, "slack.com");
    let reviewed = review(&request, Purpose::Intermediate, &settings).unwrap();
    let (chain, holder) = reviewed.sign(&authorities, now()).unwrap();
    assert_eq!(holder.ends, now() + SignedDuration::from_hours(12));
    assert_eq!(holder.root, authorities.interception.current.fingerprint());
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(chain[1], authorities.interception.current.certificate);
    // A gateway may ask for less.
    request.spec.expiration_seconds = Some(3600);
    let reviewed = review(&request, Purpose::Intermediate, &settings).unwrap();
    let (_, holder) = reviewed.sign(&authorities, now()).unwrap();
    assert_eq!(holder.ends, now() + SignedDuration::from_hours(1));
    // A clock that is behind by five minutes is no harm: certificates are dated back by an hour.
    let behind = now() - SignedDuration::from_mins(5);
    let validity = countersign_core::certificate::Validity::of(&chain[0]).unwrap();
    assert!(validity.standing(behind).is_valid());
}

fn secret(authorities: &Authorities) -> KeySecret {
    KeySecret::new("countersign-trust", "Opaque", authorities.to_data())
}

#[test]
fn what_is_kept_is_read_as_it_was_written() {
    let mut authorities = authorities();
    let next = Root::generate(AuthorityName::Interception, now()).unwrap();
    authorities.interception.next = Some(next);
    authorities.interception.position = Position::Distributed { since: now() };
    let other = Root::generate(AuthorityName::Gateways, now()).unwrap();
    authorities.gateways.previous = vec![other.certificate];
    let read = Authorities::of_secret(&secret(&authorities), now()).unwrap();
    for name in AuthorityName::ALL {
        let (read, written) = (read.get(name), authorities.get(name));
        assert_eq!(read.trusted_pem(), written.trusted_pem());
        assert_eq!(read.position, written.position);
    }
    assert_eq!(read.interception.trusted().count(), 2);
    assert_eq!(read.gateways.trusted().count(), 2);
}

#[rstest]
#[case::no_certificate(&["interception.crt"], "interception.crt: it is missing, and its key is there")]
#[case::no_key(&["interception.key"], "interception.key: it is missing")]
#[case::neither(&["gateways.crt", "gateways.key"], "gateways.crt: it is missing")]
fn a_secret_without_a_part_is_refused_with_what_to_do(
    #[case] without: &[&str],
    #[case] told: &str,
) {
    let mut secret = secret(&authorities());
    for key in without {
        secret.data.remove(*key);
    }
    let error = Authorities::of_secret(&secret, now())
        .unwrap_err()
        .to_string();
    assert!(error.contains(told), "{error}");
    assert!(error.contains("restore it from a backup"), "{error}");
}

#[test]
fn a_secret_with_something_else_is_refused() {
    let authorities = authorities();
    let put = |key: &str, value: &[u8]| {
        let mut secret = secret(&authorities);
        let text = String::from_utf8(value.to_vec()).unwrap();
        secret
            .data
            .insert(key.to_owned(), Value::from(text.as_str()));
        Authorities::of_secret(&secret, now())
            .unwrap_err()
            .to_string()
    };
    let other = secret(&super::tests::authorities());
    let error = put("interception.key", other.get("interception.key").unwrap());
    assert!(
        error.contains("does not belong to the certificate"),
        "{error}"
    );
    let error = put("interception.crt", b"-----BEGIN CERTIFICATE-----\nAA");
    assert!(error.contains("exactly one certificate"), "{error}");
    // A leaf is no CA's certificate.
    let request = asked(GATEWAY, GATEWAY_SIGNER, "countersign.countersign.svc");
    let reviewed = review(&request, Purpose::Serving, &settings()).unwrap();
    let (chain, _) = reviewed.sign(&authorities, now()).unwrap();
    let leaf = chain.split_inclusive("-----END CERTIFICATE-----\n").next();
    let error = put("gateways.crt", leaf.unwrap().as_bytes());
    assert!(error.contains("not a root"), "{error}");
    assert!(!error.contains("PRIVATE"), "{error}");
}

#[test]
fn an_expired_root_is_refused_with_its_dates() {
    let late = now() + SignedDuration::from_hours(10 * 365 * 24 + 1);
    let error = Authorities::of_secret(&secret(&authorities()), late).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("to 2036-11-28T12:00:00Z only"), "{error}");
    assert!(error.contains("compare the node's clock"), "{error}");
}

#[test]
fn a_bundle_has_the_systems_roots_and_all_of_ours() {
    let mut authorities = authorities();
    let system = Root::generate(AuthorityName::Gateways, now()).unwrap();
    let system = [system.certificate];
    let count = |text: &str| text.matches("BEGIN CERTIFICATE").count();
    let first = Bundle::new(&authorities, &system, None);
    assert_eq!(count(&first.for_apps()["bundle.pem"]), 2);
    assert_eq!(count(&first.for_apps()["root.pem"]), 1);
    assert_eq!(count(&first.for_relays()["ca.crt"]), 1);
    let same = Bundle::new(&authorities, &system, Some(first.clone()));
    assert_eq!(same, first, "a trust store is not written again");
    let next = Root::generate(AuthorityName::Interception, now()).unwrap();
    authorities.interception.next = Some(next);
    let both = Bundle::new(&authorities, &system, Some(first.clone()));
    assert_eq!(count(&both.for_apps()["bundle.pem"]), 3);
    assert_ne!(both.fingerprints[0], first.fingerprints[0]);
    assert_eq!(both.fingerprints[1], first.fingerprints[1]);
}

#[test]
fn the_public_state_has_no_key_and_forgets_what_has_ended() {
    let authorities = authorities();
    let mut state = PublicState::of(&authorities, &PublicState::default(), now());
    let holder = super::state::Holder {
        root: "A".to_owned(),
        ends: now() + SignedDuration::from_hours(1),
    };
    let public = state.authorities.get_mut("interception").unwrap();
    public.holders.insert("gateway-1".to_owned(), holder);
    let text = serde_json::to_string(&state).unwrap();
    assert!(!text.contains("KEY"), "{text}");
    assert_eq!(serde_json::from_str::<PublicState>(&text).unwrap(), state);
    let later = |minutes| {
        let at = now() + SignedDuration::from_mins(minutes);
        let state = PublicState::of(&authorities, &state, at);
        state.authorities["interception"].holders.len()
    };
    assert_eq!((later(59), later(60)), (1, 0));
}
