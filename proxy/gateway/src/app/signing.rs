//! The certificates of this gateway that a signer in the cluster signs: when each is due, and what becomes of it. The
//! binary carries requests and answers, so that nothing here knows the client of the API server.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use countersign_config::{
    host::Host,
    model::{CaSource, CertificateSource, Cluster, Gateway},
};
use countersign_core::{certificate::Validity, clock::Clock};
use countersign_pki::{CaKey, Names, PkiError, Request, Subtree, fingerprint};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::sync::Notify;

use super::{App, reload::Reloader};
use crate::{
    accept::{Bound, ListenerCertificate},
    ca::Ca,
};

/// One certificate that a signer signs.
pub struct SignedCertificate {
    signer: String,
    what: What,
    clock: Clock,
    reloader: Reloader,
    standing: Mutex<Standing>,
    /// Another root signs now.
    changed: Notify,
}

/// What is signed.
enum What {
    Intermediate(Arc<Ca>),
    Listener(Arc<ListenerCertificate>, Names),
}

#[derive(Default)]
struct Standing {
    held: Option<Held>,
    /// Another root signs than the one that signed it.
    outdated: bool,
}

/// What is in force.
struct Held {
    renew_at: Timestamp,
    root: String,
    names: Names,
}

/// A request that is due.
pub struct DueCertificate {
    /// PKCS#10, PEM.
    pub request: String,
    key: CaKey,
    names: Names,
}

impl fmt::Debug for SignedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedCertificate")
            .field("signer", &self.signer)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DueCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DueCertificate").finish_non_exhaustive()
    }
}

/// Where certificates are asked for.
#[derive(Debug)]
pub struct Signing {
    /// The cluster with the signers.
    pub cluster: Cluster,
    /// The `ConfigMap` that says which root signs.
    pub state: String,
    /// Each certificate.
    pub certificates: Vec<Arc<SignedCertificate>>,
}

/// The signers that a gateway file names; made before the listeners are served.
pub(super) fn of(gateway: &Gateway, listeners: &[Bound], ca: &Arc<Ca>) -> Option<Unwired> {
    let mut parts = Vec::new();
    let mut state = "countersign-trust".to_owned();
    if let CaSource::Signer { signer, state: of } = &gateway.ca {
        parts.push((signer.clone(), What::Intermediate(Arc::clone(ca))));
        state.clone_from(of);
    }
    for (bound, listener) in listeners.iter().zip(&gateway.listeners) {
        let source = listener.tls.as_ref().map(|tls| &tls.source);
        if let (Some(certificate), Some(CertificateSource::Signer { signer, names })) =
            (bound.certificate(), source)
        {
            let names = names.iter().map(subtree).collect();
            let what = What::Listener(Arc::clone(certificate), names);
            parts.push((signer.clone(), what));
        }
    }
    (!parts.is_empty()).then(|| Unwired {
        cluster: gateway.kubernetes.clone(),
        state,
        parts,
    })
}

/// [`Signing`] before there is a reloader.
pub(super) struct Unwired {
    cluster: Cluster,
    state: String,
    parts: Vec<(String, What)>,
}

impl fmt::Debug for Unwired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unwired").finish_non_exhaustive()
    }
}

fn subtree(host: &Host) -> Subtree {
    match host {
        Host::Ip(ip) => Subtree::Ip(*ip),
        Host::Name(name) => Subtree::Dns(name.to_string()),
    }
}

impl App {
    /// The certificates that signers in the cluster sign, if there are such.
    pub fn signing(&self) -> Option<Signing> {
        let unwired = self.signing.as_ref()?;
        let certificates = unwired.parts.iter().map(|(signer, what)| {
            Arc::new(SignedCertificate {
                signer: signer.clone(),
                what: match what {
                    What::Intermediate(ca) => What::Intermediate(Arc::clone(ca)),
                    What::Listener(certificate, names) => {
                        What::Listener(Arc::clone(certificate), names.clone())
                    }
                },
                clock: self.gateway.access.clock.clone(),
                reloader: self.reloader.clone(),
                standing: Mutex::default(),
                changed: Notify::new(),
            })
        });
        Some(Signing {
            cluster: unwired.cluster.clone(),
            state: unwired.state.clone(),
            certificates: certificates.collect(),
        })
    }
}

impl SignedCertificate {
    /// The signer's name.
    pub fn signer(&self) -> &str {
        &self.signer
    }

    /// Waits until a certificate is due: there is none, other hosts are intercepted, another root signs, or half of its
    /// life is over. Makes its key.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub async fn due(&self, pod: &str) -> Result<DueCertificate, PkiError> {
        loop {
            let another_root = self.changed.notified();
            let now = self.clock.now();
            let (names, other_hosts) = self.wanted();
            let at = self.due_at(&names);
            if at.is_some_and(|at| at <= now) {
                let key = CaKey::generate()?;
                let request = Request::write(&key, pod, &names)?;
                return Ok(DueCertificate {
                    request,
                    key,
                    names,
                });
            }
            let passed = async {
                match at {
                    Some(at) => self.clock.until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = another_root => {}
                () = other_hosts => {}
                () = passed => {}
            }
        }
    }

    fn wanted(&self) -> (Names, Pin<Box<dyn Future<Output = ()> + Send>>) {
        match &self.what {
            What::Intermediate(ca) => match ca.wanted() {
                Some((names, changed)) => (names, Box::pin(changed)),
                None => (Names::default(), Box::pin(std::future::pending())),
            },
            What::Listener(_, names) => (names.clone(), Box::pin(std::future::pending())),
        }
    }

    /// `None` while nothing is wanted.
    fn due_at(&self, names: &Names) -> Option<Timestamp> {
        if names.is_empty() {
            return None;
        }
        let standing = self.lock();
        let Some(held) = &standing.held else {
            return Some(Timestamp::MIN);
        };
        Some(if standing.outdated || held.names != *names {
            Timestamp::MIN
        } else {
            held.renew_at
        })
    }

    /// Puts what was signed into force: the chain, PEM, with the root last.
    ///
    /// # Errors
    /// When it cannot be used, in words. What was in force stays so.
    pub fn take(&self, due: DueCertificate, chain: &[u8]) -> Result<(), String> {
        let DueCertificate { key, names, .. } = due;
        let now = self.clock.now();
        let validity: Validity = match &self.what {
            What::Intermediate(ca) => ca
                .take_signed(chain, key, &names)
                .map_err(|error| error.to_string())?,
            What::Listener(certificate, _) => certificate
                .take_signed(chain, &key, now)
                .map_err(|error| error.to_string())?,
        };
        let root = CertificateDer::pem_slice_iter(chain)
            .filter_map(Result::ok)
            .last();
        *self.lock() = Standing {
            held: Some(Held {
                renew_at: now + validity.not_after.duration_since(now) / 2,
                root: root.map(|root| fingerprint(&root)).unwrap_or_default(),
                names,
            }),
            outdated: false,
        };
        tracing::info!(signer = %self.signer, valid_until = %validity.not_after, "a certificate was signed");
        self.report();
        Ok(())
    }

    /// Says why there is no certificate, or no other.
    pub fn failed(&self, why: &str) {
        match &self.what {
            What::Intermediate(ca) => ca.not_signed_because(why),
            What::Listener(certificate, _) => certificate.not_signed_because(why),
        }
        self.report();
    }

    /// Tells which root signs now, and when it replaced another, if it did.
    pub fn root_signs(&self, fingerprint: &str, replaced_another_at: Option<Timestamp>) {
        if let What::Intermediate(ca) = &self.what {
            ca.set_replaced_another_at(replaced_another_at);
        }
        let mut standing = self.lock();
        // Only a change counts: what is known of the root may be older than the certificate.
        if standing
            .held
            .as_ref()
            .is_some_and(|held| held.root != fingerprint)
        {
            standing.outdated = true;
            self.changed.notify_one();
        }
    }

    /// Reads files.
    fn report(&self) {
        let reloader = self.reloader.clone();
        tokio::task::spawn_blocking(move || reloader.report_certificates());
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
