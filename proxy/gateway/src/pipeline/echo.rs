//! Detects an API that returns the credential: it is removed from the response's headers, and reported if
//! it is in the body, which is not changed.

use std::sync::Arc;

use countersign_core::redact::REDACTED;
use countersign_credential::Issued;
use http::{HeaderMap, HeaderValue, header::CONTENT_ENCODING};
use memchr::memmem;
use smallvec::SmallVec;

use crate::api_error::SHORTEST_SECRET;

/// After how many false starts a general searcher is built.
const MOST_TRIED: usize = 64;

/// Searches for one text in a stream of pieces, also across their boundaries. It keeps fewer bytes than the
/// text has.
#[derive(Debug, Default)]
pub struct Search {
    /// The last bytes: at most one less than the text has.
    tail: SmallVec<[u8; 128]>,
    found: bool,
}

impl Search {
    /// Whether the text was found.
    pub fn found(&self) -> bool {
        self.found
    }

    /// Searches the next piece.
    pub fn look(&mut self, text: &[u8], piece: &[u8]) {
        let Some(keep) = text.len().checked_sub(1) else {
            return;
        };
        if self.found {
            return;
        }
        self.found = self.spans(text, piece) || holds(piece, text);
        if let Some(fresh) = piece.len().checked_sub(keep) {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[fresh..]);
            return;
        }
        let stale = (self.tail.len() + piece.len()).saturating_sub(keep);
        self.tail.drain(..stale);
        self.tail.extend_from_slice(piece);
    }

    /// Whether the text begins before this piece and ends in it.
    fn spans(&self, text: &[u8], piece: &[u8]) -> bool {
        let most = piece.len().min(text.len() - 1);
        // At most the kept bytes can be its beginning.
        let least = (text.len() - self.tail.len().min(text.len())).max(1);
        (least..=most).any(|here| {
            let (before, rest) = text.split_at(text.len() - here);
            piece[..here] == *rest && self.tail.ends_with(before)
        })
    }
}

/// Whether `piece` holds `text`.
///
/// Searches for one byte of the text and compares around it. A general searcher is faster for long pieces
/// but must be built first, which costs more than the search in a small response; and one that is kept
/// would be a copy of the credential. It is built if that byte is frequent.
fn holds(piece: &[u8], text: &[u8]) -> bool {
    // Capitals are rare in API responses.
    let anchor = text.iter().position(u8::is_ascii_uppercase).unwrap_or(0);
    let Some(&byte) = text.get(anchor) else {
        return true;
    };
    let Some(last) = piece.len().checked_sub(text.len()) else {
        return false;
    };
    for (tried, at) in memchr::memchr_iter(byte, &piece[anchor..=anchor + last]).enumerate() {
        if tried > MOST_TRIED {
            return memmem::find(&piece[at..], text).is_some();
        }
        if piece[at..].starts_with(text) {
            return true;
        }
    }
    false
}

/// What is known of one response and its request's credential.
#[derive(Debug)]
pub(super) struct Echo {
    issued: Arc<Issued>,
    in_head: bool,
    /// `None` if the body is encoded; then a search would find nothing.
    body: Option<Search>,
}

impl Echo {
    /// Removes the credential from the response's headers, and prepares for its body.
    pub(super) fn of(issued: Option<Arc<Issued>>, headers: &mut HeaderMap) -> Option<Self> {
        let issued = issued.filter(|it| it.secret().expose().len() >= SHORTEST_SECRET)?;
        let secret = issued.secret().expose().as_bytes();
        let mut in_head = false;
        for value in headers.values_mut() {
            if holds(value.as_bytes(), secret) {
                *value = without(value, secret);
                in_head = true;
            }
        }
        let encoded = headers.contains_key(CONTENT_ENCODING);
        Some(Self {
            issued,
            in_head,
            body: (!encoded).then(Search::default),
        })
    }

    /// Searches a piece of the body.
    pub(super) fn look(&mut self, piece: &[u8]) {
        if let Some(body) = &mut self.body {
            body.look(self.issued.secret().expose().as_bytes(), piece);
        }
    }

    /// Whether the response contained the credential.
    pub(super) fn found(&self) -> bool {
        self.in_head || self.body.as_ref().is_some_and(Search::found)
    }
}

fn without(value: &HeaderValue, secret: &[u8]) -> HeaderValue {
    let bytes = value.as_bytes();
    let mut clean = Vec::with_capacity(bytes.len());
    let mut rest = 0;
    for at in memmem::find_iter(bytes, secret) {
        clean.extend_from_slice(&bytes[rest..at]);
        clean.extend_from_slice(REDACTED.as_bytes());
        rest = at + secret.len();
    }
    clean.extend_from_slice(&bytes[rest..]);
    // Parts of a header value around a plain word are a header value.
    HeaderValue::from_bytes(&clean).unwrap_or(HeaderValue::from_static(REDACTED))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const SECRET: &[u8] = b"xoxb-1234567890";

    fn found(pieces: &[&[u8]]) -> bool {
        let mut search = Search::default();
        for piece in pieces {
            search.look(SECRET, piece);
        }
        search.found()
    }

    #[rstest]
    #[case::whole(&["a xoxb-1234567890 b"], true)]
    #[case::split(&["a xoxb-123", "4567890 b"], true)]
    #[case::at_the_last_byte(&["xoxb-123456789", "0"], true)]
    #[case::with_an_empty_piece(&["xoxb-", "", "1234567890"], true)]
    #[case::begun_twice(&["xoxb-xoxb-", "1234567890"], true)]
    #[case::one_byte_short(&["xoxb-123456789", " "], false)]
    #[case::something_between(&["xoxb-", " ", "1234567890"], false)]
    #[case::ends_alone(&["1234567890"], false)]
    fn finds_it_over_pieces(#[case] pieces: &[&str], #[case] expected: bool) {
        let pieces: Vec<_> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        assert_eq!(found(&pieces), expected);
    }

    #[test]
    fn finds_it_byte_by_byte() {
        let text = [b"before ", SECRET, b" behind"].concat();
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert!(found(&bytes));
        assert!(!found(&bytes[..bytes.len() - 8]));
    }

    proptest! {
        /// However a text is cut, the search finds what a search in the whole finds.
        #[test]
        fn agrees_with_a_search_in_the_whole(text in "[ab]{0,64}", cuts in prop::collection::vec(1_usize..9, 0..64)) {
            let wanted = b"abbabaab";
            let mut search = Search::default();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (piece, later) = rest.split_at(cut.min(rest.len()));
                search.look(wanted, piece);
                rest = later;
            }
            search.look(wanted, rest);
            prop_assert_eq!(search.found(), memmem::find(text.as_bytes(), wanted).is_some());
        }
    }

    proptest! {
        /// Also where an answer is full of the byte that is looked for.
        #[test]
        fn agrees_with_a_searcher(piece in "[aB]{0,400}", text in "[aB]{1,9}") {
            let expected = memmem::find(piece.as_bytes(), text.as_bytes()).is_some();
            prop_assert_eq!(holds(piece.as_bytes(), text.as_bytes()), expected);
        }
    }

    #[rstest]
    #[case("xoxb-1234567890", "[redacted]")]
    #[case("a=xoxb-1234567890; b=xoxb-1234567890", "a=[redacted]; b=[redacted]")]
    fn takes_it_out_of_a_header(#[case] value: &str, #[case] expected: &str) {
        let value = HeaderValue::from_str(value).unwrap();
        assert_eq!(without(&value, SECRET), expected);
    }
}
