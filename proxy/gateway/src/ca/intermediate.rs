//! The intermediate, constrained to the intercepted hosts, and the leaves it mints.

use std::sync::Arc;

use countersign_config::host::Host;
use countersign_pki::{CaKey, Template, Validity};
use jiff::{SignedDuration, Timestamp};
use rcgen::{Issuer, KeyPair, PublicKeyData, SanType, SubjectPublicKeyInfo};
use rustls::{ServerConfig, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::{CaError, intercepted::Intercepted, root::Root, serve::ServerTemplate};

/// What the common name of an intermediate begins with.
const NAME: &str = "Countersign interception";

const LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(24);

/// The longest common name that X.520 allows, in characters.
const MAX_COMMON_NAME: usize = 64;

/// An intermediate and its key, in memory only.
pub(super) struct Intermediate {
    generation: u64,
    hosts: Intercepted,
    issued: Timestamp,
    validity: Validity,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, CaKey>,
    leaf_key: LeafKey,
}

/// The key that this intermediate's leaves share. It has never signed a certificate.
struct LeafKey {
    public: SubjectPublicKeyInfo,
    private: Arc<dyn rustls::sign::SigningKey>,
}

/// A leaf for one host, ready to serve.
pub(super) struct Leaf {
    generation: u64,
    issued: Timestamp,
    validity: Validity,
    config: Arc<ServerConfig>,
}

impl Intermediate {
    /// Issues one for `hosts`. `generation` must differ from those of its predecessors.
    pub(super) fn issue(
        root: &Root,
        hosts: Intercepted,
        generation: u64,
        now: Timestamp,
    ) -> Result<Self, CaError> {
        let validity = Validity::starting(now, LIFE).within(root.validity());
        let template = Template::intermediate(NAME, &hosts.names(), validity)?;
        let key = CaKey::generate()?;
        let certificate = template.params().signed_by(&key, &root.issuer()?)?;
        Ok(Self {
            generation,
            hosts,
            issued: now,
            validity,
            certificate: certificate.into(),
            issuer: Issuer::new(template.into_params(), key),
            leaf_key: LeafKey::generate()?,
        })
    }

    /// One that was signed for `key` elsewhere.
    pub(super) fn signed(
        certificate: &CertificateDer<'static>,
        key: CaKey,
        hosts: Intercepted,
        generation: u64,
        now: Timestamp,
    ) -> Result<Self, String> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|_malformed| "its certificate cannot be read")?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err("its certificate is another key's".to_owned());
        }
        if !parsed.is_ca() {
            return Err("its certificate is not a CA's".to_owned());
        }
        let validity = Validity::of(&parsed).ok_or("its dates are out of range")?;
        if !validity.covers(now) {
            let Validity {
                not_before,
                not_after,
            } = validity;
            return Err(format!(
                "it is valid from {not_before} to {not_after} only, and here it is {now:.0}; compare the clocks of the nodes"
            ));
        }
        let issuer = Issuer::from_ca_cert_der(certificate, key);
        let issuer = issuer.map_err(|_| "its certificate cannot be an issuer's")?;
        Ok(Self {
            generation,
            hosts,
            issued: now,
            validity,
            certificate: certificate.clone(),
            issuer,
            leaf_key: LeafKey::generate().map_err(|error| error.to_string())?,
        })
    }

    /// When it is valid.
    pub(super) fn validity(&self) -> countersign_core::certificate::Validity {
        let Validity {
            not_before,
            not_after,
        } = self.validity;
        countersign_core::certificate::Validity {
            not_before,
            not_after,
        }
    }

    /// The hosts it may mint leaves for.
    pub(super) fn hosts(&self) -> &Intercepted {
        &self.hosts
    }

    /// The certificate, DER.
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The last moment of its validity.
    pub(super) fn not_after(&self) -> Timestamp {
        self.validity.not_after
    }

    /// Whether it holds now.
    pub(super) fn is_valid(&self, now: Timestamp) -> bool {
        self.validity.covers(now)
    }

    /// Whether it holds now and more than half of its life is left.
    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        self.validity.is_fresh(self.issued, now, 2)
    }

    /// Mints a leaf for `host`, which must be one of [`Self::hosts`]: verifiers would refuse any other.
    pub(super) fn mint(
        &self,
        host: &Host,
        template: &ServerTemplate,
        now: Timestamp,
    ) -> Result<Leaf, CaError> {
        let validity = Validity::starting(now, LEAF_LIFE).within(self.validity);
        let certificate = match host {
            Host::Name(name) => {
                let fits = name.len() <= MAX_COMMON_NAME;
                let san = SanType::DnsName(name.as_str().try_into()?);
                self.sign(san, fits.then_some(name.as_str()), validity)?
            }
            // No common name: if the alternative names have no DNS name, OpenSSL treats the common name as
            // one and finds it outside the constraints.
            Host::Ip(ip) => self.sign(SanType::IpAddress(*ip), None, validity)?,
        };
        Ok(Leaf {
            generation: self.generation,
            issued: now,
            validity,
            config: Arc::new(template.serve(host, self.presented(certificate))),
        })
    }

    /// The fields that all leaves have in common.
    pub(super) fn sign(
        &self,
        name: SanType,
        common_name: Option<&str>,
        validity: Validity,
    ) -> Result<CertificateDer<'static>, CaError> {
        let template = Template::leaf(common_name, vec![name], validity)?;
        let leaf = template.params();
        Ok(leaf.signed_by(&self.leaf_key.public, &self.issuer)?.into())
    }

    /// The chain that is sent, leaf first and without the root, and the leaf's key.
    pub(super) fn presented(&self, leaf: CertificateDer<'static>) -> CertifiedKey {
        let chain = vec![leaf, self.certificate.clone()];
        CertifiedKey::new(chain, Arc::clone(&self.leaf_key.private))
    }
}

impl LeafKey {
    fn generate() -> Result<Self, CaError> {
        let pair = Zeroizing::new(KeyPair::generate()?);
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        Ok(Self {
            public: SubjectPublicKeyInfo::from_der(&pair.subject_public_key_info())?,
            private: rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&private)?,
        })
    }
}

impl Leaf {
    /// The TLS configuration that serves it.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Whether `intermediate` minted it, it holds now, and more than a quarter of its life is left.
    pub(super) fn is_fresh(&self, intermediate: &Intermediate, now: Timestamp) -> bool {
        self.generation == intermediate.generation && self.validity.is_fresh(self.issued, now, 4)
    }
}
