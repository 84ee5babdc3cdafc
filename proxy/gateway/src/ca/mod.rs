//! The certificates that clients see on an intercepted connection.
//!
//! Three levels limit the damage of a stolen key. Clients trust the **root**; its key is in one file, and
//! in memory only while an intermediate is issued. The **intermediate** is valid for days and kept in
//! memory only; its name constraints are exactly the intercepted hosts, so a stolen one can impersonate
//! only those, and only for days. A **leaf** is for one exact host, minted on demand after policy has
//! allowed interception, with a key that is never a CA's.
//!
//! [`Ca::leaf`] is on the path of every intercepted connection: it takes no lock but the cache's.

mod bundle;
mod describe;
mod intercepted;
mod intermediate;
mod resumption;
mod root;
mod serve;
mod signer;
mod store;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
};

use arc_swap::ArcSwapOption;
use countersign_config::host::{Host, HostPattern};
use countersign_core::{
    certificate::{HeldCertificate, Validity},
    clock::Clock,
    files, tls_error,
};
use countersign_pki::{PkiError, after, pem};
use jiff::{SignedDuration, Timestamp};
use moka::ops::compute::Op;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;

use self::{
    intercepted::Intercepted,
    intermediate::{Intermediate, Leaf},
    root::Root,
    serve::ServerTemplate,
    signer::Signer,
};

pub use self::{
    bundle::system_roots,
    describe::{CertificateSummary, describe},
    signer::SignedError,
};

/// The file of the root in a CA's directory.
pub fn root_file(directory: &Path) -> PathBuf {
    directory.join(store::ROOT_FILE)
}

/// How long to wait after a failed reissue while the intermediate is still valid.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// Why an operation of the CA failed.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// There is no CA in the directory.
    #[error("{} does not exist; start the gateway once, which makes it", .0.display())]
    Missing(PathBuf),
    /// A file or directory could not be used.
    #[error("cannot {action} {}: {}", path.display(), files::reason(source))]
    Io {
        /// What was tried: read, write...
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Users other than the owner can read or replace the key.
    #[error("{} has mode {mode:04o}, which lets others {danger}; run: chmod {remedy} {0}", path.display())]
    Permissions {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they allow.
        danger: &'static str,
        /// The bits that are accepted.
        remedy: &'static str,
    },
    /// The file is damaged.
    #[error(
        "{} is damaged: {reason}; restore it from a backup, or remove it and have clients trust the new root that the next start makes",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The root is outside its validity.
    #[error("the root in {} is valid from {not_before} to {not_after} only; check this machine's clock, or remove the file and have clients trust the new root that the next start makes", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// The first moment of its validity.
        not_before: Timestamp,
        /// The last moment of its validity.
        not_after: Timestamp,
    },
    /// The root's file was replaced while the gateway ran.
    #[error("{} holds another root than at start; restart the gateway to use it", .0.display())]
    RootChanged(PathBuf),
    /// No intercepted host covers this one.
    #[error("{0} is not an intercepted host")]
    NotIntercepted(Host),
    /// The signer in the cluster has not signed what is needed.
    #[error("there is no certificate authority for this host: {0}")]
    NotSigned(String),
    /// A certificate could not be made.
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// The system's random numbers failed.
    #[error("no random numbers are to be had")]
    Random,
    /// The TLS library refused a key or setting.
    #[error("cannot set up TLS: {}", tls_error::sentence(.0))]
    Tls(#[from] rustls::Error),
    /// The system has no root certificates.
    #[error(
        "no system root certificates were found ({0}); install the ca-certificates package or set SSL_CERT_FILE"
    )]
    SystemRoots(String),
}

impl From<PkiError> for CaError {
    fn from(error: PkiError) -> Self {
        match error {
            PkiError::Issue(error) => Self::Issue(error),
            PkiError::Random => Self::Random,
        }
    }
}

/// A root, the intermediate beneath it, and the leaves minted so far.
pub struct Ca {
    source: Source,
    clock: Clock,
    template: ServerTemplate,
    /// `None` until something is intercepted.
    intermediate: ArcSwapOption<Intermediate>,
    issuing: Mutex<Issuing>,
    /// When the root replaced another one.
    replaced_another_at: ArcSwapOption<Timestamp>,
    leaves: moka::sync::Cache<Host, Arc<Leaf>>,
}

/// What signs the intermediate.
enum Source {
    /// The root in this directory.
    Directory(PathBuf, Root),
    /// A signer of the cluster, with a root that is elsewhere.
    Signer(Signer),
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca")
            .field("root", &self.root_place())
            .field("leaves", &self.leaves.entry_count())
            .finish_non_exhaustive()
    }
}

/// The state of issuing intermediates; its lock is held while one is issued.
#[derive(Default)]
struct Issuing {
    generation: u64,
    retry_at: Option<Timestamp>,
}

impl Ca {
    /// Opens the CA in `directory`, and makes its root if there is none. Of several processes that
    /// start at once, one makes the root and all use it. At most `leaves` leaves are kept.
    pub fn open_or_create(directory: &Path, clock: Clock, leaves: u64) -> Result<Self, CaError> {
        store::prepare_directory(directory)?;
        let root = Root::load_or_create(directory, clock.now())?;
        let source = Source::Directory(directory.to_owned(), root);
        Ok(Self::new(source, clock, ServerTemplate::new()?, leaves))
    }

    /// Opens the CA in `directory`; one that is not there is an error.
    pub fn open(directory: &Path, clock: Clock, leaves: u64) -> Result<Self, CaError> {
        let root = Root::load(directory, clock.now())?;
        let source = Source::Directory(directory.to_owned(), root);
        Ok(Self::new(source, clock, ServerTemplate::new()?, leaves))
    }

    fn new(source: Source, clock: Clock, template: ServerTemplate, leaves: u64) -> Self {
        Self {
            source,
            clock,
            template,
            intermediate: ArcSwapOption::empty(),
            issuing: Mutex::default(),
            replaced_another_at: ArcSwapOption::empty(),
            leaves: moka::sync::Cache::new(leaves),
        }
    }

    /// Sets the hosts that are intercepted. If they changed, a new intermediate is issued that is
    /// constrained to them, and the leaves of the old one are not used any more.
    ///
    /// X.509 can constrain a DNS name only together with its subdomains (RFC 5280, 4.2.1.10) and
    /// knows no wildcards, so the certificate permits `slack.com` and what is below it for
    /// `wss*.slack.com`. [`Ca::leaf`] itself mints for hosts that match a pattern and no others.
    pub fn constrain<'a>(
        &self,
        hosts: impl Iterator<Item = &'a HostPattern>,
    ) -> Result<(), CaError> {
        let hosts = Intercepted::new(hosts);
        let directory = match &self.source {
            Source::Directory(directory, _) => directory,
            Source::Signer(signer) => {
                if hosts.is_empty() {
                    self.intermediate.store(None);
                    self.leaves.invalidate_all();
                }
                signer.wanted.send_if_modified(|wanted| {
                    let before = std::mem::replace(wanted, hosts);
                    before != *wanted
                });
                return Ok(());
            }
        };
        let mut issuing = self.lock_issuing();
        let now = self.clock.now();
        match self.intermediate.load_full() {
            None if hosts.is_empty() => Ok(()),
            Some(_) if hosts.is_empty() => self.withdraw(directory),
            Some(current) if *current.hosts() == hosts && current.is_valid(now) => Ok(()),
            Some(_) | None => self.issue(&mut issuing, hosts, now).map(drop),
        }
    }

    /// The TLS configuration for `host`, with a leaf that is valid now.
    pub fn leaf(&self, host: &Host) -> Result<Arc<ServerConfig>, CaError> {
        let now = self.clock.now();
        let intermediate = self.current(host, now)?;
        if let Some(leaf) = self.leaves.get(host)
            && leaf.is_fresh(&intermediate, now)
        {
            return Ok(leaf.config());
        }
        self.mint(&intermediate, host, now)
    }

    /// The same, for a thread that also serves other connections. A new intermediate needs the root's key
    /// from its file, and stores a copy of itself there: that runs on another thread, and if the disk does
    /// not respond, the present intermediate is used as long as it is valid.
    pub async fn leaf_in_time(self: &Arc<Self>, host: &Host) -> Result<Arc<ServerConfig>, CaError> {
        let directory = match &self.source {
            Source::Directory(directory, _) => directory,
            Source::Signer(signer) => {
                let leaf = self.leaf(host);
                let is_missing = matches!(
                    leaf,
                    Err(CaError::NotIntercepted(_) | CaError::NotSigned(_))
                );
                if !is_missing {
                    return leaf;
                }
                return Box::pin(self.leaf_when_signed(signer, host)).await;
            }
        };
        let now = self.clock.now();
        let current = self.intermediate.load_full();
        let Some(current) = current.filter(|current| !current.is_fresh(now)) else {
            return self.leaf(host);
        };
        let (ca, name) = (Arc::clone(self), host.clone());
        let renewed: io::Result<_> =
            files::run_blocking(directory, move |_| Ok(ca.leaf(&name))).await;
        match renewed {
            Ok(leaf) => leaf,
            Err(_) if current.is_valid(now) => self.mint(&current, host, now),
            Err(source) => Err(store::io_error("read", directory, source)),
        }
    }

    /// The root certificate, PEM; empty while it is not known.
    pub fn root_pem(&self) -> String {
        self.root().map(|root| pem(&root)).unwrap_or_default()
    }

    /// The system's roots and the CA's, PEM: for clients that take one file with all roots.
    pub fn bundle_pem(&self) -> Result<String, CaError> {
        let root = self
            .root()
            .ok_or_else(|| CaError::NotSigned(self.root_place()))?;
        bundle::with_system_roots(&root)
    }

    /// The root certificate; `None` while a signer has signed nothing.
    pub fn root(&self) -> Option<CertificateDer<'static>> {
        match &self.source {
            Source::Directory(_, root) => Some(root.certificate().clone()),
            Source::Signer(signer) => signer.root(),
        }
    }

    /// Where the root is, for people: the file with its certificate and key, or its signer.
    pub fn root_place(&self) -> String {
        match &self.source {
            Source::Directory(_, root) => root.path().display().to_string(),
            Source::Signer(signer) => signer.root_place(),
        }
    }

    /// When the root replaced another that clients may still trust.
    pub fn set_replaced_another_at(&self, at: Option<Timestamp>) {
        self.replaced_another_at.store(at.map(Arc::new));
    }

    /// When the root replaced another that clients may still trust, if it did.
    pub fn replaced_another_at(&self) -> Option<Timestamp> {
        self.replaced_another_at.load().as_deref().copied()
    }

    /// The root, with its validity, and the intermediate if a signer signed it. Our own intermediate and the leaves are
    /// made when they are needed.
    pub fn held(&self) -> Vec<HeldCertificate> {
        let root = match &self.source {
            Source::Directory(_, root) => root,
            Source::Signer(signer) => return self.signed_certificates(signer),
        };
        let countersign_pki::Validity {
            not_before,
            not_after,
        } = root.validity();
        vec![HeldCertificate {
            name: "ca/root".into(),
            file: root.path().into(),
            validity: Validity {
                not_before,
                not_after,
            },
        }]
    }

    /// The intermediate in force, reissued first if less than half of its life is left.
    fn current(&self, host: &Host, now: Timestamp) -> Result<Arc<Intermediate>, CaError> {
        match self.intermediate.load_full() {
            Some(current) if current.is_fresh(now) => Ok(current),
            found => match (&self.source, found) {
                // It is renewed in the background.
                (Source::Signer(_), Some(current)) if current.is_valid(now) => Ok(current),
                (Source::Signer(signer), _) => Err(signer.not_signed()),
                (Source::Directory(..), Some(current)) => self.renew(current, host, now),
                (Source::Directory(..), None) => Err(CaError::NotIntercepted(host.clone())),
            },
        }
    }

    /// Reissues the intermediate, which reads one small file every few days. While `seen` is still valid
    /// only one caller does that and the others continue; a failure is only logged.
    fn renew(
        &self,
        seen: Arc<Intermediate>,
        host: &Host,
        now: Timestamp,
    ) -> Result<Arc<Intermediate>, CaError> {
        let usable = seen.is_valid(now);
        let mut issuing = match self.issuing.try_lock() {
            Ok(issuing) => issuing,
            Err(TryLockError::WouldBlock) if usable => return Ok(seen),
            Err(TryLockError::WouldBlock) => self.lock_issuing(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        };
        let Some(current) = self.intermediate.load_full() else {
            return Err(CaError::NotIntercepted(host.clone()));
        };
        let retry_later = issuing.retry_at.is_some_and(|at| now < at);
        if current.is_fresh(now) || (current.is_valid(now) && retry_later) {
            return Ok(current);
        }
        match self.issue(&mut issuing, current.hosts().clone(), now) {
            Ok(renewed) => Ok(renewed),
            Err(error) if current.is_valid(now) => {
                tracing::warn!(
                    %error,
                    valid_until = %current.not_after(),
                    "cannot reissue the interception CA's intermediate; the present one is used on"
                );
                issuing.retry_at = Some(after(now, RETRY_AFTER));
                Ok(current)
            }
            Err(error) => Err(error),
        }
    }

    /// Issues an intermediate and puts it in force.
    fn issue(
        &self,
        issuing: &mut Issuing,
        hosts: Intercepted,
        now: Timestamp,
    ) -> Result<Arc<Intermediate>, CaError> {
        let (directory, root) = match &self.source {
            Source::Directory(directory, root) => (directory, root),
            Source::Signer(signer) => return Err(signer.not_signed()),
        };
        issuing.generation += 1;
        let intermediate = Intermediate::issue(root, hosts, issuing.generation, now)?;
        let intermediate = Arc::new(intermediate);
        issuing.retry_at = None;
        self.intermediate.store(Some(Arc::clone(&intermediate)));
        self.leaves.invalidate_all();
        let copy = directory.join(store::INTERMEDIATE_FILE);
        if let Err(error) = store::replace(&copy, pem(intermediate.certificate()).as_bytes()) {
            // Only `ca show` reads this copy, and the directory may rightly be read-only.
            tracing::warn!(%error, "cannot keep a copy of the intermediate for `ca show`");
        }
        Ok(intermediate)
    }

    /// Puts the intermediate out of force: nothing is intercepted any more.
    fn withdraw(&self, directory: &Path) -> Result<(), CaError> {
        self.intermediate.store(None);
        self.leaves.invalidate_all();
        store::remove(&directory.join(store::INTERMEDIATE_FILE))
    }

    /// Mints a leaf unless another caller just did; callers for one host wait for each other.
    fn mint(
        &self,
        intermediate: &Intermediate,
        host: &Host,
        now: Timestamp,
    ) -> Result<Arc<ServerConfig>, CaError> {
        if !intermediate.hosts().contains(host) {
            return Err(CaError::NotIntercepted(host.clone()));
        }
        let mut config = None;
        self.leaves
            .entry_by_ref(host)
            .and_try_compute_with(|kept| {
                if let Some(kept) = kept
                    && kept.value().is_fresh(intermediate, now)
                {
                    config = Some(kept.value().config());
                    return Ok::<_, CaError>(Op::Nop);
                }
                let leaf = intermediate.mint(host, &self.template, now)?;
                config = Some(leaf.config());
                Ok(Op::Put(Arc::new(leaf)))
            })?;
        Ok(config.expect("the closure ran, and set it wherever it did not fail"))
    }

    fn lock_issuing(&self) -> MutexGuard<'_, Issuing> {
        // A panic cannot leave `Issuing` inconsistent: its fields are independent.
        self.issuing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
