//! A CA whose intermediate a signer in the cluster signs.

use countersign_pki::{CaKey, Names, NewRoot, Request, Validity};
use rcgen::Issuer;

use super::*;

/// The signer, which holds the root.
struct SignerOf {
    root: CertificateDer<'static>,
    issuer: Issuer<'static, CaKey>,
}

impl SignerOf {
    fn new() -> Self {
        let NewRoot { certificate, key } = NewRoot::generate("Root", start()).unwrap();
        let issuer = Issuer::from_ca_cert_der(&certificate, key).unwrap();
        Self {
            root: certificate,
            issuer,
        }
    }

    /// An intermediate for twelve hours from `now`, with the root behind it.
    fn sign(&self, key: &CaKey, names: &Names, now: Timestamp) -> Vec<u8> {
        let request = Request::write(key, "gateway", names).unwrap();
        let request = Request::read(request.as_bytes()).unwrap();
        let validity = Validity::starting(now, SignedDuration::from_hours(12));
        let signed = request
            .sign_intermediate("Interception", &self.issuer, validity)
            .unwrap();
        (pem(&signed) + &pem(&self.root)).into_bytes()
    }
}

fn ca(hosts: &[&str]) -> (Arc<Ca>, Clock) {
    let clock = Clock::manual(start());
    let ca = Ca::of_signer("countersign.dev/interception", clock.clone(), 10).unwrap();
    constrain(&ca, hosts).unwrap();
    (Arc::new(ca), clock)
}

/// Asks for what is wanted, and takes what is signed.
fn take(ca: &Ca, signer: &SignerOf, now: Timestamp) {
    let (names, _) = ca.wanted().unwrap();
    let key = CaKey::generate().unwrap();
    let chain = signer.sign(&key, &names, now);
    ca.take_signed(&chain, key, &names).unwrap();
}

fn accepts(ca: &Ca, name: &str, clock: &Clock) -> Result<Session, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.root().unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let time = Arc::new(ClockTime(clock.clone()));
    let config = ClientConfig::builder_with_details(provider, time)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    handshake(config.into(), ca.leaf(&host(name)).unwrap(), name)
}

#[test]
fn nothing_is_intercepted_until_it_is_signed_and_then_everything_wanted_is() {
    let (ca, clock) = ca(&["slack.com", "192.0.2.7"]);
    let refused = ca.leaf(&host("slack.com"));
    assert!(matches!(refused, Err(CaError::NotSigned(_))), "{refused:?}");
    assert!(ca.waits_for().unwrap().contains("has not signed it yet"));
    ca.not_signed_because("the request was refused (NotAGateway)");
    assert!(ca.waits_for().unwrap().contains("NotAGateway"));
    let signer = SignerOf::new();
    take(&ca, &signer, start());
    assert_eq!(ca.waits_for(), None);
    let session = accepts(&ca, "slack.com", &clock).unwrap();
    assert_eq!(
        session.chain.len(),
        2,
        "leaf and intermediate, not the root"
    );
    accepts(&ca, "192.0.2.7", &clock).unwrap();
    assert!(matches!(
        ca.leaf(&host("evil.test")),
        Err(CaError::NotIntercepted(_))
    ));
    let held = ca.held().into_iter();
    let names: Vec<_> = held.map(|held| held.name.to_string()).collect();
    assert_eq!(names, ["ca/root", "ca/intermediate"]);
}

#[test]
fn what_is_not_its_own_is_not_taken() {
    let (ca, clock) = ca(&["slack.com"]);
    let signer = SignerOf::new();
    let (names, _) = ca.wanted().unwrap();
    let [own, other] = [(); 2].map(|()| CaKey::generate().unwrap());
    let chain = signer.sign(&other, &names, start());
    let error = ca.take_signed(&chain, own, &names).unwrap_err().to_string();
    assert!(error.contains("another key's"), "{error}");
    let key = CaKey::generate().unwrap();
    let late = signer.sign(&key, &names, start() + SignedDuration::from_hours(2));
    let error = ca.take_signed(&late, key, &names).unwrap_err().to_string();
    assert!(error.contains("compare the clocks of the nodes"), "{error}");
    let key = CaKey::generate().unwrap();
    let error = ca.take_signed(b"nothing", key, &names).unwrap_err();
    assert!(error.to_string().contains("has no root"), "{error}");
    assert!(ca.leaf(&host("slack.com")).is_err());
    // A signer whose clock is five minutes ahead is no harm.
    take(&ca, &signer, start() + SignedDuration::from_mins(5));
    accepts(&ca, "slack.com", &clock).unwrap();
}

#[test]
fn it_is_used_until_it_ends_and_no_longer() {
    let (ca, clock) = ca(&["slack.com"]);
    take(&ca, &SignerOf::new(), start());
    clock.set(start() + SignedDuration::from_hours(11));
    accepts(&ca, "slack.com", &clock).unwrap();
    clock.set(start() + SignedDuration::from_hours(13));
    let refused = ca.leaf(&host("slack.com"));
    assert!(matches!(refused, Err(CaError::NotSigned(_))), "{refused:?}");
    assert!(ca.waits_for().is_some());
}

#[tokio::test]
async fn a_host_that_policy_adds_is_waited_for() {
    let (ca, clock) = ca(&["slack.com"]);
    let signer = SignerOf::new();
    take(&ca, &signer, start());
    constrain(&ca, &["slack.com", "api.qase.io"]).unwrap();
    // What was signed already serves on.
    accepts(&ca, "slack.com", &clock).unwrap();
    let name = host("api.qase.io");
    let mut leaf = std::pin::pin!(ca.leaf_in_time(&name));
    let waits = std::future::poll_fn(|context| {
        std::task::Poll::Ready(leaf.as_mut().poll(context).is_pending())
    });
    assert!(waits.await, "it is not signed yet");
    take(&ca, &signer, start());
    leaf.await.unwrap();
    accepts(&ca, "api.qase.io", &clock).unwrap();
    constrain(&ca, &[]).unwrap();
    assert!(ca.leaf(&host("slack.com")).is_err());
    assert_eq!(ca.waits_for(), None);
}
