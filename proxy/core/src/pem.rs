//! What is wrong with a PEM file, in words.

use rustls_pki_types::pem::Error;

use crate::files;

/// The end of a sentence that begins with the file.
pub fn sentence(error: &Error) -> String {
    match error {
        Error::MissingSectionEnd { .. } => {
            "has a section without its END line: it was cut off".to_owned()
        }
        Error::IllegalSectionStart { .. } => "has a BEGIN line that is not one of PEM".to_owned(),
        Error::Base64Decode(_) => "has a section that is not base64".to_owned(),
        Error::Io(error) => format!("cannot be read ({})", files::reason(error)),
        Error::NoItemsFound => "has nothing in it of what is needed".to_owned(),
        // The enum may grow.
        _ => "is not PEM".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use rustls_pki_types::{CertificateDer, pem::PemObject};

    use super::*;

    #[rstest]
    #[case::cut_off("-----BEGIN CERTIFICATE-----\nAAAA\n", "without its END line")]
    #[case::no_base64(
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        "is not base64"
    )]
    #[case::no_begin("-----BEGIN CERTIFICATE\nAAAA\n", "BEGIN line that is not one")]
    #[case::empty("", "nothing in it")]
    fn each_mistake_has_its_words(#[case] pem: &str, #[case] words: &str) {
        let error = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap_err();
        let told = sentence(&error);
        assert!(told.contains(words), "{told}");
    }
}
