//! Certificates that a signer in the cluster signs, instead of files.

use std::path::PathBuf;

use super::super::fields::{each, non_blank};
use crate::{
    host::Host,
    model::{CaSource, CertificateSource, ClientTrust, ListenerTls},
    resource::{CaSpec, ClientTrustSpec, InterceptionSpec, ListenerTlsSpec},
    yaml::{Findings, Location},
};

const CA_DIRECTORY: &str = "/var/lib/countersign/ca";
const TRUST_STATE: &str = "countersign-trust";

pub(super) fn interception(
    spec: Option<&InterceptionSpec>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<CaSource> {
    match spec.map(|spec| (&spec.ca, &spec.issuer)) {
        None | Some((None, None)) => Some(CaSource::Directory(CA_DIRECTORY.into())),
        Some((Some(CaSpec::Directory(directory)), None)) => {
            Some(CaSource::Directory(PathBuf::from(directory)))
        }
        Some((None, Some(issuer))) => {
            let location = location.key("issuer");
            let signer = signer(&issuer.signer, &location.key("signer"), findings);
            let state = match &issuer.state {
                None => Some(TRUST_STATE.to_owned()),
                Some(state) => non_blank(state, &location.key("state"), findings),
            };
            Some(CaSource::Signer {
                signer: signer?,
                state: state?,
            })
        }
        Some((Some(_), Some(_))) => {
            findings.error(
                &location.key("issuer"),
                "two-sources",
                "the interception CA is in a directory, or a signer signs; it cannot be both",
                "remove `ca` or `issuer`",
            );
            None
        }
    }
}

pub(super) fn tls(
    spec: &ListenerTlsSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<ListenerTls> {
    Some(ListenerTls {
        source: source(spec, location, findings)?,
        client_trust: match spec.client_trust {
            None | Some(ClientTrustSpec::None) => ClientTrust::None,
            Some(ClientTrustSpec::Spiffe) => ClientTrust::Spiffe,
        },
    })
}

fn source(
    spec: &ListenerTlsSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<CertificateSource> {
    match (&spec.certificate, &spec.key, &spec.issuer) {
        (Some(certificate), Some(key), None) => Some(CertificateSource::Files {
            certificate: PathBuf::from(certificate),
            key: PathBuf::from(key),
        }),
        (None, None, Some(issuer)) => {
            let location = location.key("issuer");
            let signer = signer(&issuer.signer, &location.key("signer"), findings);
            let place = location.key("names");
            if issuer.names.is_empty() {
                findings.error(
                    &place,
                    "empty-list",
                    "the certificate would have no name, and no client would accept it",
                    "list the names by which clients reach this listener, such as `countersign.countersign.svc`",
                );
                return None;
            }
            let names = each(&issuer.names, &place, |name, location| {
                let parsed = Host::parse(name);
                parsed
                    .inspect_err(|error| {
                        findings.error(
                            location,
                            "bad-host",
                            error.to_string(),
                            "write a DNS name or an address",
                        );
                    })
                    .ok()
            });
            Some(CertificateSource::Signer {
                signer: signer?,
                names: names?,
            })
        }
        _ => {
            findings.error(
                location,
                "certificate-source",
                "a listener's certificate comes from `certificate` and `key`, or from an `issuer`",
                "write both files, or `issuer: { signer, names }`",
            );
            None
        }
    }
}

/// A signer's name, as Kubernetes has them: a domain, and a path below it.
fn signer(text: &str, location: &Location<'_>, findings: &Findings) -> Option<String> {
    let parts = text.split_once('/');
    let fits = parts.is_some_and(|(domain, path)| {
        domain.contains('.') && !path.is_empty() && !text.contains(char::is_whitespace)
    });
    if !fits {
        findings.error(
            location,
            "bad-signer",
            "this is not the name of a signer",
            "write a domain and a name, such as `countersign.dev/interception`",
        );
        return None;
    }
    Some(text.to_owned())
}
