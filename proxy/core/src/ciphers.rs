//! The cryptography of TLS with pods and with APIs.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// aws-lc's provider, with the suites in our order: `TLS13_AES_128_GCM_SHA256` first.
///
/// Every TLS 1.3 implementation has this suite (RFC 8446, section 9.1), and its keys are exchanged over
/// curves that are not stronger. rustls prefers AES-256, whose handshake hashes with SHA-384. That makes
/// a new connection more expensive, because processors have instructions only for SHA-256.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    let first = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    // False sorts before true; the others keep their order.
    provider.cipher_suites.sort_by_key(|suite| *suite != first);
    Arc::new(provider)
}

#[cfg(test)]
mod tests {
    use rustls::CipherSuite;

    use super::*;

    #[test]
    fn the_cheapest_suite_comes_first_and_none_is_left_out() {
        let names = |provider: &CryptoProvider| -> Vec<CipherSuite> {
            let suites = provider.cipher_suites.iter();
            suites.map(rustls::SupportedCipherSuite::suite).collect()
        };
        let (mut ours, mut theirs) = (names(&provider()), names(&aws_lc_rs::default_provider()));
        assert_eq!(ours[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
        ours.sort_by_key(|suite| u16::from(*suite));
        theirs.sort_by_key(|suite| u16::from(*suite));
        assert_eq!(ours, theirs);
    }
}
