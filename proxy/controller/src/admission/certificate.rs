//! The webhook's own certificate: in files, which are read again when they change, or kept by the controller. It is told
//! when it ends.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use countersign_core::{certificate::Validity, ciphers, clock::Clock, files, tls_error};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use zeroize::Zeroizing;

/// How often the files are read. A kubelet brings a changed Secret within a minute.
pub const READ_EVERY: Duration = Duration::from_secs(10);

/// A certificate that is shown until another is read.
#[derive(Debug)]
pub struct ServingCertificate {
    /// Certificate and key; `None` where the controller keeps both.
    files: Option<(PathBuf, PathBuf)>,
    /// `None` until there is one: the controller itself makes the first.
    shown: ArcSwapOption<Shown>,
    /// Why the files' content is not shown.
    problem: ArcSwap<Option<String>>,
}

#[derive(Debug)]
struct Shown {
    config: Arc<ServerConfig>,
    validity: Validity,
    /// What the files held, to see a change.
    pem: Vec<u8>,
}

impl ServingCertificate {
    /// The one in these files, which need not be there yet.
    pub fn new(certificate: PathBuf, key: PathBuf) -> Self {
        let waiting = format!("{} was not read yet", certificate.display());
        Self {
            files: Some((certificate, key)),
            shown: ArcSwapOption::empty(),
            problem: ArcSwap::from_pointee(Some(waiting)),
        }
    }

    /// One that the controller keeps: there is none until it is given one.
    pub fn kept() -> Self {
        Self {
            files: None,
            shown: ArcSwapOption::empty(),
            problem: ArcSwap::from_pointee(Some("the controller has not made it yet".to_owned())),
        }
    }

    /// Shows this one, PEM. What cannot be used takes nothing away.
    pub fn show(&self, chain: &[u8], key: &[u8], clock: &Clock) {
        let loaded = of_pem("the Secret with the webhook's certificate", chain, key);
        self.take(loaded, clock);
    }

    /// Whether the controller keeps it, rather than files.
    pub const fn is_kept(&self) -> bool {
        self.files.is_none()
    }

    /// Whether a key belongs to a chain.
    pub fn is_pair(chain: Vec<CertificateDer<'static>>, key: &[u8]) -> bool {
        PrivateKeyDer::from_pem_slice(key).is_ok_and(|key| server_config(chain, key).is_ok())
    }

    /// What is shown now.
    pub fn config(&self) -> Option<Arc<ServerConfig>> {
        Some(Arc::clone(&self.shown.load().as_ref()?.config))
    }

    /// Reads the files again. What cannot be used takes nothing away. Where there are none, it only looks whether the
    /// certificate has ended.
    pub async fn read(&self, clock: &Clock) {
        match &self.files {
            Some((certificate, key)) => self.take(load(certificate, key).await, clock),
            None => {
                if let Some(problem) = self.expired(clock) {
                    self.take(Err(problem), clock);
                }
            }
        }
    }

    fn take(&self, loaded: Result<Shown, String>, clock: &Clock) {
        let before = self.problem.load_full();
        let problem = match loaded {
            Ok(shown) => {
                let sentence = shown.validity.sentence(clock.now());
                if self
                    .shown
                    .load()
                    .as_ref()
                    .is_none_or(|old| old.pem != shown.pem)
                {
                    tracing::info!("the webhook's certificate {sentence}");
                    self.shown.store(Some(Arc::new(shown)));
                }
                None
            }
            Err(problem) => Some(problem),
        };
        let problem = problem.or_else(|| self.expired(clock));
        if let Some(problem) = problem.as_ref().filter(|_| problem != *before) {
            tracing::error!("the API server cannot call the webhook: {problem}");
        }
        self.problem.store(Arc::new(problem));
    }

    /// Reads the files every ten seconds, for ever.
    pub async fn follow(&self, clock: &Clock) {
        let mut ticks = tokio::time::interval(READ_EVERY);
        loop {
            ticks.tick().await;
            self.read(clock).await;
        }
    }

    /// Whether API servers accept it, in words.
    ///
    /// # Errors
    /// When they do not, or the files hold another that cannot be used; in words.
    pub fn readiness(&self, clock: &Clock) -> Result<String, String> {
        if let Some(problem) = self.expired(clock) {
            return Err(problem);
        }
        if let Some(problem) = self.problem.load().as_ref() {
            return Err(format!("the webhook's certificate: {problem}"));
        }
        let shown = self.shown.load();
        let sentence = shown
            .as_ref()
            .map(|shown| shown.validity.sentence(clock.now()));
        Ok(format!(
            "the webhook's certificate {}",
            sentence.unwrap_or_default()
        ))
    }

    fn expired(&self, clock: &Clock) -> Option<String> {
        let shown = self.shown.load();
        let validity = shown.as_ref()?.validity;
        let valid = validity.standing(clock.now()).is_valid();
        (!valid).then(|| {
            format!(
                "the webhook's certificate {}",
                validity.sentence(clock.now())
            )
        })
    }
}

async fn load(certificate: &Path, key: &Path) -> Result<Shown, String> {
    let chain = bytes(certificate).await?;
    let content = Zeroizing::new(bytes(key).await?);
    PrivateKeyDer::from_pem_slice(&content)
        .map_err(|_| format!("{} holds no PEM private key", key.display()))?;
    of_pem(&certificate.display().to_string(), &chain, &content)
}

fn of_pem(shown: &str, certificate: &[u8], key: &[u8]) -> Result<Shown, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .unwrap_or_default();
    let validity = Validity::of_chain(&chain)
        .ok_or_else(|| format!("{shown} holds no PEM certificate that can be parsed"))?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| format!("{shown} comes without a PEM private key"))?;
    let config = server_config(chain, key).map_err(|error| {
        let sentence = tls_error::sentence(&error);
        format!("{shown} and its key cannot be used: {sentence}")
    })?;
    Ok(Shown {
        config: Arc::new(config),
        validity,
        pem: certificate.to_vec(),
    })
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(ciphers::provider())
        .with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

async fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    files::read(path)
        .await
        .map_err(|error| format!("cannot read {}: {}", path.display(), files::reason(&error)))
}
