//! The certificate of a gateway's own TLS listener, as files, with the authority that clients
//! check it by.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// Where the files are.
#[derive(Debug, Clone)]
pub struct ListenerFiles {
    /// The authority, PEM.
    pub ca: PathBuf,
    /// The listener's certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

impl ListenerFiles {
    /// Writes a certificate for `localhost` and these addresses into `directory`.
    ///
    /// # Panics
    /// If the machine cannot make a key.
    pub fn write(directory: &Path, addresses: &[IpAddr]) -> io::Result<Self> {
        Self::write_changed(directory, addresses, |_, _| ())
    }

    /// The same, after a change to the parameters of the authority and of the certificate.
    ///
    /// # Panics
    /// If the machine cannot make a key.
    pub fn write_changed(
        directory: &Path,
        addresses: &[IpAddr],
        change: impl FnOnce(&mut CertificateParams, &mut CertificateParams),
    ) -> io::Result<Self> {
        let new_key = || KeyPair::generate().expect("a key can be made");
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let mut names = vec!["localhost".to_owned()];
        names.extend(addresses.iter().map(ToString::to_string));
        let mut leaf = CertificateParams::new(names).expect("the names are valid");
        leaf.use_authority_key_identifier_extension = true;
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut ca, &mut leaf);
        let ca = CertifiedIssuer::self_signed(ca, new_key()).expect("the parts are valid");
        let key = new_key();
        let leaf = leaf.signed_by(&key, &ca).expect("the parts are valid");
        let files = Self {
            ca: directory.join("listener-ca.pem"),
            certificate: directory.join("listener.pem"),
            key: directory.join("listener-key.pem"),
        };
        fs::write(&files.ca, ca.pem())?;
        fs::write(&files.certificate, leaf.pem())?;
        fs::write(&files.key, key.serialize_pem())?;
        Ok(files)
    }
}
