//! What a redirected client says first, at its worst.

use std::hint::black_box;

use countersign_core::wire::sniff::{MOST, Sniffer};

use super::report;

pub(crate) fn measure() {
    // Records of one byte each, of a hello that never comes to the end that it announced.
    let mut records = b"\x16\x03\x01\0\x04\x01\0\xff\xff".to_vec();
    while records.len() + 6 <= MOST {
        records.extend_from_slice(b"\x16\x03\x01\0\x01\0");
    }
    let mut line = b"GET /".to_vec();
    line.resize(MOST, b'a');
    for (what, bytes) in [
        ("64 KiB of records of a byte", &records),
        ("64 KiB of a line", &line),
    ] {
        report(
            &format!("first bytes, {what}"),
            || (),
            |()| {
                look(bytes, bytes.len());
            },
        );
        report(
            &format!("first bytes, {what}, by 16"),
            || (),
            |()| look(bytes, 16),
        );
    }
}

/// They come in pieces of so many bytes.
fn look(bytes: &[u8], piece: usize) {
    let mut sniffer = Sniffer::default();
    for end in (piece..=bytes.len()).step_by(piece) {
        assert!(matches!(black_box(sniffer.look(&bytes[..end])), Ok(None)));
    }
}
