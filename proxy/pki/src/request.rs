//! Requests for certificates (PKCS#10), as a gateway makes them and the controller reads them.
//!
//! A request carries a key, the proof that the sender has it, and names. Nothing else in it counts: what the
//! certificate says besides is the signer's decision.

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, Issuer, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject};

use super::{CaKey, Names, PkiError, Subtree, Template, Validity, issue::subject};

/// A request whose signature is right: whoever made it has the key.
#[derive(Debug)]
pub struct Request {
    names: Names,
    parsed: CertificateSigningRequestParams,
}

/// Why a request is none that can be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No PKCS#10.
    #[error("the request is not one PEM block with a PKCS#10 request")]
    Unreadable,
    /// The sender does not have the key, or the request was changed.
    #[error("the request's signature is not its own key's")]
    Signature,
    /// It asks for an extension that is never given.
    #[error("the request asks for an extension that this signer does not give")]
    Extension,
    /// Another kind of key.
    #[error("the request's key is not a P-256 key")]
    Key,
    /// A name that is neither a DNS name nor an address, or none at all.
    #[error("the request must name DNS names or addresses, and nothing else")]
    Names,
}

impl Request {
    /// Writes a request for these names, PEM. `common_name` is for people.
    ///
    /// # Errors
    /// When a name is not ASCII.
    pub fn write(key: &CaKey, common_name: &str, names: &Names) -> Result<String, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(Some(common_name));
        params.subject_alt_names = names.alternative_names()?;
        Ok(params.serialize_request(key)?.pem()?)
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it cannot be read, its signature is wrong, or it asks for what is never given.
    pub fn read(pem: &[u8]) -> Result<Self, RequestError> {
        let mut blocks = CertificateSigningRequestDer::pem_slice_iter(pem);
        let (Some(Ok(der)), None) = (blocks.next(), blocks.next()) else {
            return Err(RequestError::Unreadable);
        };
        let parsed =
            CertificateSigningRequestParams::from_der(&der).map_err(|error| match error {
                rcgen::Error::InvalidCertificationRequestSignature => RequestError::Signature,
                rcgen::Error::UnsupportedExtension => RequestError::Extension,
                rcgen::Error::UnsupportedSignatureAlgorithm => RequestError::Key,
                _ => RequestError::Unreadable,
            })?;
        if parsed.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(RequestError::Key);
        }
        let names = parsed
            .params
            .subject_alt_names
            .iter()
            .map(|name| match name {
                SanType::DnsName(name) => Ok(Subtree::Dns(name.as_str().to_ascii_lowercase())),
                SanType::IpAddress(ip) => Ok(Subtree::Ip(*ip)),
                _ => Err(RequestError::Names),
            });
        let names: Names = names.collect::<Result<_, _>>()?;
        if names.is_empty() {
            return Err(RequestError::Names);
        }
        Ok(Self { names, parsed })
    }

    /// The names that it asks for.
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// Signs an intermediate that may issue for the request's names, and for no others.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn sign_intermediate(
        &self,
        common_name: &str,
        issuer: &Issuer<'_, CaKey>,
        validity: Validity,
    ) -> Result<CertificateDer<'static>, PkiError> {
        let template = Template::intermediate(common_name, &self.names, validity)?;
        let signed = template
            .params()
            .signed_by(&self.parsed.public_key, issuer)?;
        Ok(signed.into())
    }

    /// Signs a TLS server's certificate with the request's names.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn sign_leaf(
        &self,
        common_name: &str,
        issuer: &Issuer<'_, CaKey>,
        validity: Validity,
    ) -> Result<CertificateDer<'static>, PkiError> {
        let names = self.names.alternative_names()?;
        let template = Template::leaf(Some(common_name), names, validity)?;
        let signed = template
            .params()
            .signed_by(&self.parsed.public_key, issuer)?;
        Ok(signed.into())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CustomExtension, KeyPair, PKCS_ECDSA_P384_SHA384};

    use super::*;

    fn names() -> Names {
        let ip = "192.0.2.7".parse().unwrap();
        [Subtree::Dns("slack.com".to_owned()), Subtree::Ip(ip)]
            .into_iter()
            .collect()
    }

    fn of(params: &CertificateParams, key: &KeyPair) -> Result<Request, RequestError> {
        let pem = params.serialize_request(key).unwrap().pem().unwrap();
        Request::read(pem.as_bytes())
    }

    #[test]
    fn what_a_gateway_writes_is_read() {
        let key = CaKey::generate().unwrap();
        let pem = Request::write(&key, "countersign-7d9f", &names()).unwrap();
        assert_eq!(*Request::read(pem.as_bytes()).unwrap().names(), names());
    }

    #[test]
    fn a_request_that_was_changed_is_refused() {
        let key = CaKey::generate().unwrap();
        let pem = Request::write(&key, "gateway", &names()).unwrap();
        let mut der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .unwrap()
            .to_vec();
        let at = der.windows(9).position(|it| it == b"slack.com").unwrap();
        der[at] = b'b';
        let text = super::super::pem(&der).replace("CERTIFICATE", "CERTIFICATE REQUEST");
        let error = Request::read(text.as_bytes()).unwrap_err();
        assert_eq!(error, RequestError::Signature);
    }

    #[test]
    fn what_no_gateway_asks_for_is_refused() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        assert_eq!(of(&params, &key).unwrap_err(), RequestError::Names);
        params.subject_alt_names = vec![SanType::Rfc822Name("a@b.test".try_into().unwrap())];
        assert_eq!(of(&params, &key).unwrap_err(), RequestError::Names);
        params.subject_alt_names = names().alternative_names().unwrap();
        let other = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        assert_eq!(of(&params, &other).unwrap_err(), RequestError::Key);
        params.custom_extensions = vec![CustomExtension::from_oid_content(
            &[1, 3, 6, 1, 4, 1, 99999, 1],
            vec![5, 0],
        )];
        assert_eq!(of(&params, &key).unwrap_err(), RequestError::Extension);
        assert_eq!(
            Request::read(b"nothing").unwrap_err(),
            RequestError::Unreadable
        );
    }
}
