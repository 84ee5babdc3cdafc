//! How people compare certificates.

use std::fmt::Write as _;

/// SHA-256 of a certificate, upper case hex with colons.
pub fn fingerprint(certificate: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let mut text = String::new();
    for (position, byte) in digest.as_ref().iter().enumerate() {
        let colon = if position == 0 { "" } else { ":" };
        write!(text, "{colon}{byte:02X}").expect("writing to a String does not fail");
    }
    text
}
