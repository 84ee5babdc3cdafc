//! Certificates that a peer sends beside its leaf, and that lead nowhere.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    IsCa, KeyPair, PKCS_ED25519,
};

/// How many, how large, and how alike they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowd {
    /// 200, of which 10 are issuers of one name: each could be issued by every other. They just fit
    /// into one message of TLS.
    Many,
    /// 5 of 4 KiB.
    Large,
    /// 5 issuers of one name.
    Alike,
    /// 5 small ones of different names: with the leaf the most that is looked at.
    Most,
}

impl Crowd {
    /// The certificates.
    ///
    /// # Panics
    /// If the machine cannot make a key.
    pub fn certificates(self) -> Vec<Certificate> {
        match self {
            Self::Many => {
                let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key can be made");
                let filler = signed_by_itself("filler", 0, key);
                let mut crowd = alike(10);
                crowd.extend(std::iter::repeat_n(filler, 190));
                crowd
            }
            Self::Large => distinct(4096),
            Self::Alike => alike(5),
            Self::Most => distinct(0),
        }
    }

    /// The same as PEM.
    pub fn pem(self) -> String {
        self.certificates().iter().map(Certificate::pem).collect()
    }
}

fn alike(count: usize) -> Vec<Certificate> {
    (0..count).map(|_| authority("look-alike", 0)).collect()
}

fn distinct(padding: usize) -> Vec<Certificate> {
    let names = (0..5).map(|number| format!("filler {number}"));
    names.map(|name| authority(&name, padding)).collect()
}

/// An authority of this name, with a key of its own, that nobody trusts.
fn authority(name: &str, padding: usize) -> Certificate {
    let key = KeyPair::generate().expect("a key can be made");
    signed_by_itself(name, padding, key)
}

fn signed_by_itself(name: &str, padding: usize, key: KeyPair) -> Certificate {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    if padding > 0 {
        let oid = [1, 3, 6, 1, 4, 1, 99_999, 1];
        let content = vec![0; padding];
        let padding = CustomExtension::from_oid_content(&oid, content);
        params.custom_extensions.push(padding);
    }
    let issuer = CertifiedIssuer::self_signed(params, key).expect("the parts are valid");
    AsRef::<Certificate>::as_ref(&issuer).clone()
}
