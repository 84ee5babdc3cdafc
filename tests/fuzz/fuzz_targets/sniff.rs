//! The sniffer must not panic, must look at no more than it says, and must give the same answer
//! however the bytes were cut on their way.
//!
//! The first byte of the input seeds the cuts, the rest is what the client sends; `seeds/sniff`
//! has real ones to begin with. `just fuzz` runs it.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The file itself: it depends on nothing, so the target builds in seconds.
#[path = "../../../proxy/core/src/wire/sniff.rs"]
mod sniff;

use sniff::{MOST, Malformed, Sniffer, DetectedProtocol};

fuzz_target!(|input: &[u8]| {
    let Some((seed, sent)) = input.split_first() else {
        return;
    };
    let sent = &sent[..sent.len().min(MOST)];
    let whole = told(sent, |_| sent.len());
    let mut cut = u32::from(*seed) | 1;
    let in_pieces = told(sent, |_| {
        // A linear congruential generator is random enough for cuts.
        cut = cut.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::from((cut >> 24) as u8 % 32) + 1
    });
    assert_eq!(whole, in_pieces);
    if let Ok(DetectedProtocol::Tls(hello)) = &whole
        && let Some(name) = &hello.server_name
    {
        assert!(!name.is_empty() && name.is_ascii() && name.len() <= sent.len());
    }
    // What follows an answer does not change it.
    if !matches!(whole, Ok(DetectedProtocol::Unknown) | Err(_)) {
        let mut more = sent.to_vec();
        more.extend_from_slice(b"\x17\x03\x03\x00\x01x\n");
        let length = more.len();
        assert_eq!(told(&more, |_| length), whole);
    }
});

/// What a connection tells that brings `sent` in pieces of these sizes, and then ends.
fn told(sent: &[u8], mut size: impl FnMut(usize) -> usize) -> Result<DetectedProtocol, Malformed> {
    let mut sniffer = Sniffer::default();
    let mut end = 0;
    while end < sent.len() {
        end = sent.len().min(end + size(end));
        if let Some(spoken) = sniffer.look(&sent[..end])? {
            return Ok(spoken);
        }
    }
    Sniffer::end(sent)
}
