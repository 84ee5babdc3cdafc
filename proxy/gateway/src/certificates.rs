//! All certificates that a gateway shows, issues with or trusts: whether they can be used, and when they end. One
//! list for `check --config`, readiness, metrics and the log.
//!
//! A gateway starts with a certificate that is not valid, and says so: a crash would also take away its other
//! listeners, and would outlast the moment at which the files are renewed. It is not ready while it has only listeners
//! that no client accepts. A valid certificate is never replaced by one that is not.

mod check;

pub use check::check;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use countersign_authorize::AccessControl;
use countersign_config::model::{BundleSource, Gateway, JwksSource, TrustRoots};
use countersign_core::{
    certificate::{HeldCertificate, Standing, Validity},
    files,
    metrics::Metrics,
};
use tokio::time::Instant;

use crate::{
    accept::ListenerCertificate,
    ca::Ca,
    observe::admin::{AdminState, CertificateStatus},
};

/// How often a running gateway looks at its certificates.
pub(crate) const LOOK: Duration = Duration::from_mins(1);

/// How often the log repeats that a certificate must be replaced, and that it should be.
const REPEAT_EXPIRED: Duration = Duration::from_hours(1);
const REPEAT_SOON: Duration = Duration::from_hours(24);

/// A listener's name and certificate.
type Listener = (Arc<str>, Arc<ListenerCertificate>);

/// The certificates of a running gateway.
#[derive(Debug)]
pub(crate) struct Certificates {
    listeners: Vec<Listener>,
    /// Whether clients can use a listener without TLS.
    serves_without: bool,
    ca: Arc<Ca>,
    access: Arc<AccessControl>,
    roots: Vec<(Arc<str>, Arc<Path>)>,
    /// What the log said last of each that is not well, and when.
    said: Mutex<HashMap<Arc<str>, (Standing, Instant)>>,
}

impl Certificates {
    /// Those of a gateway whose listeners are bound.
    pub(crate) fn new(
        gateway: &Gateway,
        listeners: Vec<Listener>,
        ca: Arc<Ca>,
        access: Arc<AccessControl>,
    ) -> Self {
        let roots = roots(gateway).into_iter();
        Self {
            serves_without: gateway.listeners.iter().any(|it| it.tls.is_none()),
            listeners,
            ca,
            access,
            roots: roots
                .map(|(name, file)| (name.into(), file.into()))
                .collect(),
            said: Mutex::default(),
        }
    }

    /// The files of listeners.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.listeners
            .iter()
            .flat_map(|(_, certificate)| certificate.files())
    }

    /// Loads the listeners' certificates again.
    pub(crate) fn reload(&self) {
        let now = self.access.clock.now();
        for (listener, certificate) in &self.listeners {
            if let Err(error) = certificate.reload(now) {
                tracing::error!(%listener, %error, "the listener's old certificate stays in force");
            }
        }
    }

    /// Looks at all of them, and reports them. Reads files.
    pub(crate) fn report(&self, state: &AdminState, metrics: &Metrics) {
        let now = self.access.clock.now();
        let listeners = self.listeners.iter().filter_map(|(name, certificate)| {
            let file = PathBuf::from(certificate.place());
            let held = held(&format!("listener/{name}"), &file, certificate.validity()?);
            Some((held, certificate.refused()))
        });
        let mut all: Vec<_> = listeners.collect();
        let is_valid = |held: &HeldCertificate| held.validity.standing(now).is_valid();
        let shows = self.serves_without || all.iter().any(|(held, _)| is_valid(held));
        let waiting = self.waiting();
        let serves = shows && self.ca.waits_for().is_none();
        let rest = self
            .ca
            .held()
            .into_iter()
            .chain(self.access.identifier.trust_domains().held())
            .chain(self.trusted());
        all.extend(rest.map(|held| (held, None)));
        metrics.certificates(
            all.iter()
                .map(|(held, _)| (&*held.name, held.validity.not_after)),
        );
        let statuses = all.iter().map(|(held, refused)| {
            let standing = held.validity.standing(now);
            self.log(held, standing, now);
            CertificateStatus {
                name: Arc::clone(&held.name),
                file: held.file.display().to_string(),
                not_before: held.validity.not_before,
                not_after: held.validity.not_after,
                state: standing.as_str(),
                reload_error: refused.as_ref().map(|refused| String::clone(refused)),
            }
        });
        let statuses: Vec<_> = statuses.collect();
        state.set_certificates(&statuses, serves, &waiting);
    }

    /// What a signer has not signed yet, and why.
    fn waiting(&self) -> Vec<String> {
        let listeners = self.listeners.iter().filter_map(|(name, certificate)| {
            let missing = certificate.validity().is_none();
            let why = certificate.refused().filter(|_| missing)?;
            Some(format!("the certificate of listener {name}: {why}"))
        });
        self.ca.waits_for().into_iter().chain(listeners).collect()
    }

    /// The roots that lie in files, as far as they can be read: whoever uses them reports what is wrong.
    fn trusted(&self) -> impl Iterator<Item = HeldCertificate> {
        self.roots.iter().filter_map(|(name, file)| {
            let pem = files::read_now(file).ok()?;
            Some(HeldCertificate {
                name: Arc::clone(name),
                file: Arc::clone(file),
                validity: Validity::of_roots(&pem)?,
            })
        })
    }

    fn log(&self, held: &HeldCertificate, standing: Standing, now: jiff::Timestamp) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if standing == Standing::Valid {
            said.remove(&held.name);
            return;
        }
        let repeat = if standing == Standing::EndsSoon {
            REPEAT_SOON
        } else {
            REPEAT_EXPIRED
        };
        if let Some((before, at)) = said.get(&held.name)
            && *before == standing
            && at.elapsed() < repeat
        {
            return;
        }
        said.insert(Arc::clone(&held.name), (standing, Instant::now()));
        let sentence = held.sentence(now);
        if standing == Standing::EndsSoon {
            tracing::warn!(certificate = %held.name, "{sentence}");
        } else {
            tracing::error!(certificate = %held.name, "{sentence}");
        }
    }
}

fn held(name: &str, file: &Path, validity: Validity) -> HeldCertificate {
    HeldCertificate {
        name: name.into(),
        file: file.into(),
        validity,
    }
}

/// The files of roots that a gateway trusts for servers, each once.
fn roots(gateway: &Gateway) -> Vec<(String, PathBuf)> {
    let mut roots = Vec::new();
    let mut add = |name: String, file: Option<&PathBuf>| {
        if let Some(file) = file
            && roots.iter().all(|(_, known)| known != file)
        {
            roots.push((name, file.clone()));
        }
    };
    for issuer in &gateway.issuers {
        if let JwksSource::Url { ca_file, .. } = &issuer.jwks {
            add(format!("issuer/{}", issuer.name), ca_file.as_ref());
        }
        if let Some(review) = &issuer.token_review {
            let name = format!("issuer/{}/token-review", issuer.name);
            add(name, review.cluster.ca_file.as_ref());
        }
    }
    add("kubernetes".to_owned(), gateway.kubernetes.ca_file.as_ref());
    let vault = gateway
        .vault
        .as_ref()
        .and_then(|vault| vault.ca_file.as_ref());
    add("vault".to_owned(), vault);
    if let TrustRoots::SystemAnd(file) | TrustRoots::Only(file) = &gateway.upstream.roots {
        add("upstream-roots".to_owned(), Some(file));
    }
    roots
}

/// The files of bundles, by trust domain.
fn bundles(gateway: &Gateway) -> impl Iterator<Item = (&str, &Path)> {
    gateway
        .trust_domains
        .iter()
        .filter_map(|domain| match &domain.bundle {
            BundleSource::File(file) => Some((domain.name.as_str(), file.as_path())),
            BundleSource::WorkloadApi(_) => None,
        })
}
