//! What clients mount: roots in each form that some runtime reads.

use std::collections::BTreeMap;

use countersign_pki::{fingerprint, pem};
use k8s_openapi::ByteString;
use rustls_pki_types::CertificateDer;

use super::{authority::Authorities, trust_store};
use crate::admission::names::{BUNDLE_FILE, ROOT_FILE, TRUST_STORE_FILE};

/// The file of the CA of the gateways' certificates.
pub(super) const GATEWAY_CA_FILE: &str = "ca.crt";

/// The content of both `ConfigMaps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bundle {
    /// The interception roots, PEM.
    pub(super) roots: String,
    /// The system's roots and ours, PEM.
    with_system: String,
    /// The same for Java; not there in a build without it.
    trust_store: Option<Vec<u8>>,
    /// The CA of the gateways' certificates, PEM.
    pub(super) gateway_ca: String,
    /// Fingerprints of `roots` and of `gateway_ca`: to see what was published.
    pub(super) fingerprints: [String; 2],
}

impl Bundle {
    /// Of what is to be trusted now. `earlier` is taken again where nothing changed: a trust store for Java is another
    /// each time that it is written.
    pub(super) fn new(
        authorities: &Authorities,
        system: &[CertificateDer<'static>],
        earlier: Option<Self>,
    ) -> Self {
        let [ours, gateways] = [&authorities.interception, &authorities.gateways];
        let roots = ours.trusted_pem();
        let gateway_ca = gateways.trusted_pem();
        if let Some(earlier) = earlier
            && earlier.roots == roots
        {
            return Self {
                fingerprints: [earlier.fingerprints[0].clone(), list(gateways.trusted())],
                gateway_ca,
                ..earlier
            };
        }
        let mut with_system: String = system.iter().map(|root| pem(root)).collect();
        with_system.push_str(&roots);
        let trusted: Vec<_> = ours.trusted().collect();
        Self {
            roots,
            with_system,
            trust_store: trust_store::of_bundle(system, &trusted),
            gateway_ca,
            fingerprints: [list(ours.trusted()), list(gateways.trusted())],
        }
    }

    /// The texts for apps.
    pub(super) fn for_apps(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (BUNDLE_FILE.to_owned(), self.with_system.clone()),
            (ROOT_FILE.to_owned(), self.roots.clone()),
        ])
    }

    /// The trust store for Java.
    pub(super) fn for_java(&self) -> BTreeMap<String, ByteString> {
        let store = self.trust_store.iter().cloned();
        store
            .map(|store| (TRUST_STORE_FILE.to_owned(), ByteString(store)))
            .collect()
    }

    /// The texts for relays.
    pub(super) fn for_relays(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(GATEWAY_CA_FILE.to_owned(), self.gateway_ca.clone())])
    }
}

/// The first bytes of each fingerprint: an annotation of 256 KiB at most has them all.
fn list<'c>(roots: impl Iterator<Item = &'c CertificateDer<'static>>) -> String {
    let each = roots.map(|root| fingerprint(root)[..23].to_owned());
    each.collect::<Vec<_>>().join(",")
}
