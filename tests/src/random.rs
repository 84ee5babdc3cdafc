//! Random texts that look like the real services' identifiers and secrets.

use std::fmt::Write as _;

const ALPHANUMERIC: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const UPPER: &[u8; 36] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// `N` random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system's random source works");
    bytes
}

/// Lower-case hexadecimal digits, two for each of `N` bytes.
pub(crate) fn hex<const N: usize>() -> String {
    encode_hex(&bytes::<N>())
}

/// Lower-case hexadecimal digits.
pub(crate) fn encode_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// Letters and digits.
pub(crate) fn alphanumeric(length: usize) -> String {
    pick(ALPHANUMERIC, length)
}

/// Upper-case letters and digits, as in Slack's ids.
pub(crate) fn upper(length: usize) -> String {
    pick(UPPER, length)
}

/// Decimal digits, the first not zero.
pub(crate) fn digits(length: usize) -> String {
    let mut text = pick(b"123456789", 1);
    text.push_str(&pick(b"0123456789", length - 1));
    text
}

/// A version-4 UUID.
pub(crate) fn uuid() -> String {
    let mut raw: [u8; 16] = bytes();
    raw[6] = (raw[6] & 0x0f) | 0x40;
    raw[8] = (raw[8] & 0x3f) | 0x80;
    let hex = encode_hex(&raw);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

fn pick(alphabet: &[u8], length: usize) -> String {
    // The bias of the remainder does not matter here: 8 random bytes for each letter.
    (0..length)
        .map(|_| {
            let wide = u64::from_le_bytes(bytes());
            let index = wide % alphabet.len() as u64;
            char::from(alphabet[usize::try_from(index).expect("an index fits")])
        })
        .collect()
}
