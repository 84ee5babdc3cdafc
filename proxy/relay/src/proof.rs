//! How the pod identifies itself: a projected token or an X.509-SVID, read from files when needed, so
//! that a file that the kubelet or the SPIFFE driver has replaced is used at once.
//!
//! The gateway checks the proof, not the relay. A token that has expired by its own claim is sent too, because only
//! the gateway can tell the app in its API's language; the relay is then not ready.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use countersign_core::{
    certificate::Validity,
    files,
    secret::Secret,
    secret_file::{self, SecretFileError},
};
use http::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::Deserialize;
use zeroize::Zeroizing;

/// How often a missing or empty file is read again, and after how long: a writer that does not replace
/// its file by renaming leaves it empty for a moment.
const READS: usize = 4;
const READ_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How far a token's expiry may be in the past before the relay is not ready; within that, the gateway decides by
/// its own clock.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// The pod's proof.
#[derive(Debug, Clone)]
pub enum Proof {
    /// A projected service-account token, sent as `Proxy-Authorization: Bearer`.
    Token(PathBuf),
    /// An X.509-SVID, sent in the TLS handshake with the gateway.
    Certificate {
        /// The chain, PEM.
        certificate: PathBuf,
        /// Its key, PEM.
        key: PathBuf,
    },
}

/// Why there is no proof. Never contains a file's content.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum ProofError {
    #[error("the token file {} {source}: mount the pod's projected token there, with the gateway's audience", path.display())]
    Token {
        path: PathBuf,
        source: SecretFileError,
    },
    #[error("the token in {} expired at {at}, so it is not being renewed: use a projected token, and check the kubelet and this node's clock", path.display())]
    Expired { path: PathBuf, at: Timestamp },
    #[error("{} cannot be read ({reason}): check --certificate and --key, and the mount that they are in", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{} holds no PEM {what}: check --certificate and --key, and who writes them", path.display())]
    Pem { path: PathBuf, what: &'static str },
    #[error("the certificate in {} {standing}: gateways do not accept it; see who renews it (the SPIFFE driver or agent)", path.display())]
    NotValid { path: PathBuf, standing: String },
}

/// A certificate chain and its key.
pub(super) struct Svid {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) fingerprint: Fingerprint,
}

/// Identifies the content of a certificate file.
pub(super) type Fingerprint = [u8; 32];

impl Proof {
    /// Whether there is a proof that a gateway may accept.
    pub(super) async fn check(&self, now: Timestamp) -> Result<(), ProofError> {
        match self {
            Self::Certificate { certificate, .. } => self.check_svid(certificate, now).await,
            Self::Token(path) => match expiry(&read_token(path).await?) {
                Some(at) if at + SKEW < now => Err(ProofError::Expired {
                    path: path.clone(),
                    at,
                }),
                Some(_) | None => Ok(()),
            },
        }
    }

    async fn check_svid(&self, path: &Path, now: Timestamp) -> Result<(), ProofError> {
        match self.validity().await? {
            Some(validity) if !validity.standing(now).is_valid() => Err(ProofError::NotValid {
                path: path.to_owned(),
                standing: validity.sentence(now),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// When the certificate is valid, if that is the proof and can be parsed; the gateway says what else is wrong
    /// with it.
    pub(super) async fn validity(&self) -> Result<Option<Validity>, ProofError> {
        let svid = self.svid().await?;
        Ok(svid.and_then(|svid| Validity::of_chain(&svid.chain)))
    }

    /// The header for a request to the gateway; `None` if the certificate is the proof.
    pub(super) async fn authorization(&self) -> Result<Option<HeaderValue>, ProofError> {
        let path = match self {
            Self::Certificate { .. } => return Ok(None),
            Self::Token(path) => path,
        };
        let token = read_token(path).await?;
        let text = Zeroizing::new(format!("Bearer {}", token.expose()));
        let mut value = HeaderValue::from_str(&text).map_err(|_| ProofError::Token {
            path: path.clone(),
            source: SecretFileError::NotText,
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The certificate for the handshake, if that is the proof.
    pub(super) async fn svid(&self) -> Result<Option<Svid>, ProofError> {
        let (certificate, key) = match self {
            Self::Token(_) => return Ok(None),
            Self::Certificate { certificate, key } => (certificate, key),
        };
        let pem = Zeroizing::new(read(certificate).await?);
        let what = "certificate chain";
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|_| not_pem(certificate, what))?;
        if chain.is_empty() {
            return Err(not_pem(certificate, what));
        }
        // Kubernetes' pod certificates are one file with both. It is read once: between two reads it
        // might be replaced.
        let key_pem = if key == certificate {
            pem.clone()
        } else {
            Zeroizing::new(read(key).await?)
        };
        let key =
            PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| not_pem(key, "private key"))?;
        Ok(Some(Svid {
            chain,
            key,
            fingerprint: fingerprint(&pem),
        }))
    }

    /// The certificate that the file has now.
    pub(super) async fn fingerprint(&self) -> Result<Option<Fingerprint>, ProofError> {
        match self {
            Self::Token(_) => Ok(None),
            Self::Certificate { certificate, .. } => {
                Ok(Some(fingerprint(&read(certificate).await?)))
            }
        }
    }
}

async fn read_token(path: &Path) -> Result<Secret, ProofError> {
    let token = read_patiently(path).await;
    token.map_err(|source| ProofError::Token {
        path: path.to_owned(),
        source,
    })
}

async fn read_patiently(path: &std::path::Path) -> Result<Secret, SecretFileError> {
    let mut reads = 1;
    loop {
        match secret_file::read(path).await {
            Err(SecretFileError::Missing | SecretFileError::Empty) if reads < READS => {
                reads += 1;
                tokio::time::sleep(READ_AGAIN_AFTER).await;
            }
            result => return result,
        }
    }
}

/// A token's own expiry; `None` if it is not a JWT, which the gateway checks.
fn expiry(token: &Secret) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
    }
    let payload = token.expose().split('.').nth(1)?;
    let payload = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?);
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    Timestamp::from_second(claims.exp).ok()
}

async fn read(path: &Path) -> Result<Vec<u8>, ProofError> {
    files::read(path)
        .await
        .map_err(|error| ProofError::Unreadable {
            path: path.to_owned(),
            reason: files::reason(&error),
        })
}

fn not_pem(path: &std::path::Path, what: &'static str) -> ProofError {
    ProofError::Pem {
        path: path.to_owned(),
        what,
    }
}

fn fingerprint(bytes: &[u8]) -> Fingerprint {
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(digest(&SHA256, bytes).as_ref());
    fingerprint
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn token(exp: &str) -> String {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{exp}}}"));
        format!("e30.{payload}.signature")
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    async fn shown(content: Option<&str>, now: Timestamp) -> Result<HeaderValue, ProofError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let proof = Proof::Token(path);
        proof.check(now).await?;
        let shown = proof.authorization().await;
        shown.map(|header| header.expect("a token is shown in a header"))
    }

    #[tokio::test]
    async fn a_token_is_shown_as_bearer_and_never_printed() {
        let value = shown(Some(&format!("{}\n", token("1000"))), at(900))
            .await
            .unwrap();
        assert_eq!(value.to_str().unwrap(), format!("Bearer {}", token("1000")));
        assert_eq!(format!("{value:?}"), "Sensitive");
    }

    #[rstest]
    #[case::within_skew(token("1000"), 1060, false)]
    #[case::over(token("1000"), 1061, true)]
    #[case::no_jwt("opaque".to_owned(), 1061, false)]
    #[case::text_for_a_number(token("\"1000\""), 1061, false)]
    #[tokio::test]
    async fn only_what_says_itself_that_it_is_over_is_told_here(
        #[case] token: String,
        #[case] now: i64,
        #[case] over: bool,
    ) {
        let shown = shown(Some(&token), at(now)).await;
        assert_eq!(
            matches!(shown, Err(ProofError::Expired { .. })),
            over,
            "{shown:?}"
        );
    }

    #[rstest]
    #[case(None, "does not exist")]
    #[case(Some(" \n"), "is empty")]
    #[case(Some("a b"), "is not one line of visible ASCII")]
    #[tokio::test(start_paused = true)]
    async fn says_what_is_wrong_with_the_file(#[case] content: Option<&str>, #[case] what: &str) {
        let error = shown(content, at(0)).await.unwrap_err().to_string();
        assert!(error.contains(&format!("token {what}: mount")), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_just_being_written_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "").unwrap();
        let proof = Proof::Token(path.clone());
        let reading = proof.authorization();
        let writing = async {
            tokio::time::sleep(READ_AGAIN_AFTER / 2).await;
            std::fs::write(&path, "late").unwrap();
        };
        let (shown, ()) = tokio::join!(reading, writing);
        assert_eq!(shown.unwrap().unwrap(), "Bearer late");
    }

    #[tokio::test]
    async fn certificate_and_key_may_be_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentialbundle.pem");
        let issued = rcgen::generate_simple_self_signed(["pod".to_owned()]).unwrap();
        let (key, certificate) = (issued.signing_key.serialize_pem(), issued.cert.pem());
        std::fs::write(&file, format!("{key}{certificate}")).unwrap();
        let proof = Proof::Certificate {
            certificate: file.clone(),
            key: file,
        };
        let svid = proof.svid().await.unwrap().unwrap();
        assert_eq!(svid.chain, [issued.cert.der().clone()]);
        assert_eq!(svid.key.secret_der(), issued.signing_key.serialized_der());
        assert_eq!(proof.fingerprint().await.unwrap(), Some(svid.fingerprint));
    }

    fn certified(from: (i32, u8, u8), to: (i32, u8, u8)) -> (tempfile::TempDir, Proof) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("svid.pem");
        let mut params = rcgen::CertificateParams::new(vec!["pod".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(&file, key.serialize_pem() + &certificate.pem()).unwrap();
        let proof = Proof::Certificate {
            certificate: file.clone(),
            key: file,
        };
        (directory, proof)
    }

    #[rstest]
    #[case::valid("2026-11-15T00:00:00Z", None)]
    #[case::expired("2026-12-02T00:00:00Z", Some("expired at 2026-12-01T00:00:00Z"))]
    #[case::not_yet("2026-10-31T00:00:00Z", Some("is valid from 2026-11-01T00:00:00Z on"))]
    #[tokio::test]
    async fn a_certificate_that_no_gateway_accepts_is_told(
        #[case] now: Timestamp,
        #[case] told: Option<&str>,
    ) {
        let (_directory, proof) = certified((2026, 11, 1), (2026, 12, 1));
        let checked = proof.check(now).await.map_err(|error| error.to_string());
        match (told, checked) {
            (None, Ok(())) => {}
            (Some(told), Err(error)) => assert!(error.contains(told), "{error}"),
            (told, checked) => panic!("{told:?}: {checked:?}"),
        }
        // It is shown nevertheless: the gateway decides.
        assert!(proof.svid().await.unwrap().is_some());
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_file_is_told_in_our_words() {
        let directory = tempfile::tempdir().unwrap();
        let proof = Proof::Certificate {
            certificate: directory.path().to_owned(),
            key: directory.path().to_owned(),
        };
        let error = proof.check(at(0)).await.unwrap_err().to_string();
        assert!(error.contains("(it is not a regular file)"), "{error}");
    }
}
