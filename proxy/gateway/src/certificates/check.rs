//! The certificates of a Gateway file, offline: for `check --config`. A file that is not on this machine is not
//! looked at: a file is often checked where it is written.

use std::{io::ErrorKind, path::Path};

use countersign_config::{
    model::{CaSource, CertificateSource, Gateway},
    problem::{Place, Problem, Problems, Severity},
};
use countersign_core::{
    certificate::{HeldCertificate, Standing, Validity},
    files,
};
use countersign_identity::bundle_validity;
use jiff::Timestamp;

use super::{bundles, held, roots};
use crate::{
    accept::{TlsError, check_files},
    ca::{self, CaError},
};

/// What happens if a certificate is not valid.
#[derive(Clone, Copy)]
enum Use {
    /// Clients see it, or what it issued, and refuse it.
    Shown,
    /// It is trusted; TLS libraries differ in whether they trust a root that has expired.
    Trusted,
}

/// Every problem with the certificates that a Gateway file names.
pub fn check(gateway: &Gateway, now: Timestamp) -> Problems {
    let mut problems = Vec::new();
    for listener in &gateway.listeners {
        let Some(tls) = &listener.tls else { continue };
        let name = format!("listener/{}", listener.name);
        let CertificateSource::Files { certificate, key } = &tls.source else {
            // It is made when the gateway runs.
            continue;
        };
        match check_files(certificate, key) {
            Ok(validity) => {
                let held = held(&name, certificate, validity);
                problems.extend(standing(&held, Use::Shown, now));
            }
            Err(TlsError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                problems.push(unusable(
                    certificate,
                    format!("listener `{}`: {error}", listener.name),
                ));
            }
        }
    }
    if let CaSource::Directory(directory) = &gateway.ca {
        problems.extend(check_ca(directory, now));
    }
    for (domain, file) in bundles(gateway) {
        match bundle_validity(file) {
            Ok(None) => {}
            Ok(Some(validity)) => {
                let held = held(&format!("trust-domain/{domain}"), file, validity);
                problems.extend(standing(&held, Use::Trusted, now));
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => problems.push(unusable(file, error.to_string())),
        }
    }
    for (name, file) in roots(gateway) {
        let Ok(pem) = files::read_now(&file) else {
            continue;
        };
        if let Some(validity) = Validity::of_roots(&pem) {
            problems.extend(standing(&held(&name, &file, validity), Use::Trusted, now));
        } else {
            let message = format!("the roots of {name} have no usable PEM certificate");
            problems.push(unusable(&file, message));
        }
    }
    Problems(problems)
}

fn check_ca(directory: &Path, now: Timestamp) -> Option<Problem> {
    match ca::describe(directory) {
        Ok((root, _intermediate)) => {
            let validity = Validity {
                not_before: root.not_before,
                not_after: root.not_after,
            };
            let held = held("ca/root", &ca::root_file(directory), validity);
            standing(&held, Use::Shown, now)
        }
        Err(CaError::Missing(_)) => None,
        Err(error) => Some(unusable(directory, format!("the interception CA: {error}"))),
    }
}

fn standing(held: &HeldCertificate, used: Use, now: Timestamp) -> Option<Problem> {
    let standing = held.validity.standing(now);
    let (code, remedy) = match standing {
        Standing::Valid => return None,
        Standing::EndsSoon => (
            "certificate-ends-soon",
            "renew it, or find out why what renews it does not; the gateway takes the new files without a restart",
        ),
        Standing::Expired => (
            "certificate-expired",
            "replace it; the gateway takes the new files without a restart",
        ),
        Standing::NotYetValid => (
            "certificate-not-yet-valid",
            "compare the clocks of this machine and of the CA that issued it",
        ),
    };
    let severity = match (used, standing.is_valid()) {
        (Use::Shown, false) => Severity::Error,
        (Use::Shown, true) | (Use::Trusted, _) => Severity::Warning,
    };
    Some(Problem {
        severity,
        code,
        message: held.sentence(now),
        remedy: remedy.to_owned(),
        place: Some(place(&held.file)),
    })
}

fn unusable(file: &Path, message: String) -> Problem {
    Problem {
        severity: Severity::Error,
        code: "certificate-unusable",
        message,
        remedy: "write a PEM certificate chain, leaf first, and the private key of its leaf"
            .to_owned(),
        place: Some(place(file)),
    }
}

fn place(file: &Path) -> Place {
    Place {
        file: file.to_owned(),
        line: 0,
        column: 1,
        width: 1,
        snippet: String::new(),
    }
}
