//! Certificate chains that are costly to build a path through.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// Intermediates that each could have issued any of the others, and the leaf.
const LOOK_ALIKES: usize = 10;
/// Certificates that lead nowhere; together some 57 KiB.
const FILLERS: usize = 190;

/// The attacker's own server.
pub(super) const SERVER: &str = "evil.test";

/// Writes a trust domain's bundle, and the two chains of an attacker whom no root vouches for.
pub(super) fn write(directory: &Path) -> anyhow::Result<()> {
    let root = CertifiedIssuer::self_signed(authority("Attacked Root"), KeyPair::generate()?)?;
    fs::write(directory.join("bundle.pem"), root.pem())?;
    let client = SanType::URI("spiffe://attacked.test/ns/a/sa/b".try_into()?);
    let server = SanType::DnsName(SERVER.try_into()?);
    costly(
        directory,
        "client",
        client,
        ExtendedKeyUsagePurpose::ClientAuth,
    )?;
    costly(
        directory,
        "server",
        server,
        ExtendedKeyUsagePurpose::ServerAuth,
    )
}

/// What [`write()`] wrote under a name.
pub(super) fn read(
    directory: &Path,
    name: &str,
) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::pem_file_iter(directory.join(format!("{name}-chain.pem")))?;
    let key = PrivateKeyDer::from_pem_file(directory.join(format!("{name}-chain.key")))?;
    Ok((chain.collect::<Result<_, _>>()?, key))
}

fn costly(
    directory: &Path,
    name: &str,
    san: SanType,
    usage: ExtendedKeyUsagePurpose,
) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let params = authority("Look Alike");
    let issuer = Issuer::from_params(&params, &key);
    let leaf_key = KeyPair::generate()?;
    let mut leaf = CertificateParams::default();
    leaf.subject_alt_names = vec![san];
    leaf.extended_key_usages = vec![usage];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let mut chain = leaf.signed_by(&leaf_key, &issuer)?.pem();
    for _ in 0..LOOK_ALIKES {
        chain += &authority("Look Alike").signed_by(&key, &issuer)?.pem();
    }
    for number in 0..FILLERS {
        let mut filler = CertificateParams::default();
        filler
            .distinguished_name
            .push(DnType::CommonName, format!("Filler {number}"));
        chain += &filler.signed_by(&leaf_key, &issuer)?.pem();
    }
    fs::write(directory.join(format!("{name}-chain.pem")), chain)?;
    fs::write(
        directory.join(format!("{name}-chain.key")),
        leaf_key.serialize_pem(),
    )?;
    Ok(())
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
