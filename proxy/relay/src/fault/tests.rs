use http::Response;
use rstest::rstest;

use super::*;

fn answer(status: u16, proxy_status: &str) -> Option<Rejection> {
    let response = Response::builder()
        .status(status)
        .header(PROXY_STATUS, proxy_status);
    Rejection::of(&response.body(()).unwrap())
}

const AUDIENCE: &str =
    "countersign; error=http_request_denied; details=\"identity_audience; 0198-ab\"";

#[rstest]
#[case::refused(407, AUDIENCE, true)]
#[case::by_another_product(407, "squid; error=http_request_denied", true)]
#[case::keys(
    503,
    "countersign; error=x; details=\"identity_keys_unavailable; 1\"",
    true
)]
#[case::throttled(429, "countersign; error=x; details=\"identity_throttled; 1\"", true)]
#[case::full(503, "countersign; error=x; details=\"overloaded; 1\"", false)]
#[case::the_host(403, "countersign; error=x; details=\"host_unmatched; 1\"", false)]
#[case::not_known_there(405, "squid", false)]
#[case::told_inside_the_tunnel(200, AUDIENCE, true)]
#[case::accepted(204, "countersign", false)]
fn only_a_refusal_of_the_pod_counts(
    #[case] status: u16,
    #[case] proxy_status: &str,
    #[case] rejects: bool,
) {
    assert_eq!(answer(status, proxy_status).is_some(), rejects);
}

/// The status is that of the tunnel.
#[test]
fn a_refusal_that_follows_a_success_is_told_without_its_status() {
    let told = Fault::Rejected(answer(200, AUDIENCE).unwrap()).to_string();
    let begin = "refuses this pod: identity_audience (record 0198-ab): The token was issued";
    assert!(told.starts_with(begin), "{told}");
}

#[test]
fn a_refusal_is_told_with_its_record_and_the_gateways_own_remedy() {
    let told = Fault::Rejected(answer(407, AUDIENCE).unwrap()).to_string();
    let begin = "refuses this pod: 407 identity_audience (record 0198-ab): The token was issued";
    assert!(told.starts_with(begin), "{told}");
    assert!(
        told.contains("Project the token with the audience"),
        "{told}"
    );
    let newer = "countersign; error=x; details=\"identity_of_tomorrow; 1\"";
    let told = Fault::Rejected(answer(407, newer).unwrap()).to_string();
    assert!(
        told.ends_with("see that record in the gateway's decision log"),
        "{told}"
    );
}

/// What a gateway says is shown only if it has the form that a gateway gives it.
#[rstest]
#[case("countersign; details=\"identity_audience; a b\"")]
#[case("countersign; details=\"identity\u{1b}[31m; 1\"")]
#[case("countersign; details=\"identity_audience\"")]
#[case("countersign-relay; details=\"identity_audience; 1\"")]
fn other_text_is_not_shown(#[case] proxy_status: &str) {
    let value = HeaderValue::from_bytes(proxy_status.as_bytes());
    let Ok(value) = value else { return };
    assert_eq!(told(&value), None);
}

#[rstest]
#[case(io::ErrorKind::ConnectionRefused, "connection-refused")]
#[case(io::ErrorKind::HostUnreachable, "no-route")]
#[case(io::ErrorKind::TimedOut, "connection-timeout")]
#[case(io::ErrorKind::ConnectionReset, "connection-failed")]
fn the_systems_errors_are_told_apart(#[case] kind: io::ErrorKind, #[case] cause: &str) {
    assert_eq!(Fault::from(io::Error::from(kind)).cause(), cause);
}

#[test]
fn a_certificates_names_are_told_plainly_and_few_of_them() {
    assert_eq!(names(&[]), "no name (a common name alone does not count)");
    let presented = |count: usize| (0..count).map(|n| format!("DnsName(\"a{n}\")"));
    let presented: Vec<_> = presented(6).collect();
    assert_eq!(names(&presented), "a0, a1, a2, a3 and 2 more");
    assert_eq!(names(&["IpAddress(192.0.2.1)".to_owned()]), "192.0.2.1");
    assert_eq!(bounded("\u{1b}[31m"), "\\u{1b}[31m");
    assert!(bounded(&"x".repeat(1000)).len() < 200);
}
