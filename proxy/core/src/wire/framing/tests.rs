use rstest::rstest;

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Follows a text at once and byte by byte; both must give the same result.
fn follow(text: &str) -> (Result<(), Violation>, Framing) {
    let mut whole = Framing::new(100);
    let at_once = whole.follow(text.as_bytes());
    let mut bytewise = Framing::new(100);
    let slowly = text
        .as_bytes()
        .chunks(1)
        .try_for_each(|byte| bytewise.follow(byte));
    assert_eq!(at_once, slowly);
    assert_eq!(whole.within_head(), bytewise.within_head());
    (at_once, whole)
}

#[rstest]
#[case::plain("GET / HTTP/1.1\r\nHost: a\r\n\r\n")]
#[case::empty_line_before("\r\nGET / HTTP/1.1\r\n\r\n")]
#[case::body("POST / HTTP/1.1\r\ncontent-length:3\r\n\r\na\nb")]
#[case::chunked(
    "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=\"y\"\r\na\nb\r\n0\r\nt: 1\r\n\r\n"
)]
#[case::connect("CONNECT a:443 HTTP/1.1\r\nContent-Length: 0\r\n\r\n")]
#[case::old("GET / HTTP/1.0\r\nContent-Length: 0\r\n\r\n")]
#[case::odd_but_legal("GET / HTTP/1.1\r\nx-content-length: q\r\nempty:\r\n\r\n")]
fn an_honest_request_ends_where_the_next_begins(#[case] request: &str) {
    let (found, framing) = follow(request);
    assert_eq!(found, Ok(()));
    assert!(!framing.within_head());
    // A violation in the next request is found only if its beginning is known.
    let (found, _) = follow(&format!("{request}{GET}GET / HTTP/1.1\n"));
    assert_eq!(found, Err(Violation("a line ends with LF alone")));
}

#[rstest]
#[case::bare_lf("GET / HTTP/1.1\nHost: a\r\n\r\n")]
#[case::bare_lf_at_the_end("GET / HTTP/1.1\r\nHost: a\n\n")]
#[case::bare_cr("GET / HTTP/1.1\r\nHost: a\rx: b\r\n\r\n")]
#[case::nul("GET / HTTP/1.1\r\nHost: a\0\r\n\r\n")]
#[case::folded("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n")]
#[case::no_colon("GET / HTTP/1.1\r\nHost\r\n\r\n")]
#[case::space_before_colon("GET / HTTP/1.1\r\nContent-Length : 3\r\n\r\n")]
#[case::both("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n")]
#[case::both_turned("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n")]
#[case::two_lengths("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n")]
#[case::length_list("POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n")]
#[case::signed_length("POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n")]
#[case::two_encodings(
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
)]
#[case::encoding_list("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")]
#[case::unknown_encoding("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n")]
#[case::old_with_encoding("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n")]
#[case::connect_with_body("CONNECT a:443 HTTP/1.1\r\nContent-Length: 3\r\n\r\n")]
#[case::odd_chunk("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n")]
#[case::chunk_too_long("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n")]
#[case::chunk_with_lf("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n")]
fn what_servers_read_differently_is_a_violation(#[case] request: &str) {
    let (found, framing) = follow(request);
    assert!(found.is_err());
    assert!(framing.within_head());
}

#[test]
fn a_line_without_end_is_not_kept() {
    let (found, _) = follow(&"x".repeat(101));
    assert_eq!(found, Err(Violation("a line is too long")));
}

#[rstest]
#[case("", false)]
#[case("G", true)]
#[case("GET / HTTP/1.1\r\n", true)]
#[case("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n", false)]
#[case("GET / HTTP/1.1\r\n\r\nGET", true)]
fn knows_when_a_head_is_due(#[case] text: &str, #[case] within: bool) {
    assert_eq!(follow(text).1.within_head(), within);
}

/// A text with `{}` replaced by this many bytes.
fn filled(text: &str, byte: &str, count: usize) -> String {
    text.replace("{}", &byte.repeat(count))
}

/// However a line is split, and however long it is, the result is the same.
#[rstest]
#[case::uri("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x", true)]
#[case::old("GET /{} HTTP/1.0\r\n\r\n", "x", true)]
#[case::value("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x", true)]
#[case::colons("GET / HTTP/1.1\r\nx: {}\r\n\r\n", ":", true)]
#[case::name("GET / HTTP/1.1\r\n{}: x\r\n\r\n", "x", true)]
#[case::space_before_length("POST / HTTP/1.1\r\nContent-Length: {}3\r\n\r\nabc", " ", true)]
#[case::space_after_length("POST / HTTP/1.1\r\nContent-Length: 3{}\r\n\r\nabc", "\t", true)]
#[case::space_about_encoding(
    "POST / HTTP/1.1\r\nTransfer-Encoding:{}chunked \r\n\r\n0\r\n\r\n",
    " ",
    true
)]
#[case::extension(
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;{}\r\nabc\r\n0\r\n\r\n",
    "x",
    true
)]
#[case::trailer(
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nt: {}\r\n\r\n",
    "x",
    true
)]
#[case::old_chunked("POST /{} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "x", false)]
#[case::digits(
    "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999{}3\r\n\r\nabc",
    "1",
    false
)]
#[case::text_within("POST / HTTP/1.1\r\nContent-Length: 3{}x{}\r\n\r\nabc", " ", false)]
#[case::two_lengths("POST / HTTP/1.1\r\nContent-Length: 3{}3\r\n\r\nabc", " ", false)]
#[case::two_encodings(
    "POST / HTTP/1.1\r\nTransfer-Encoding: gzip,{}chunked\r\n\r\n",
    " ",
    false
)]
#[case::chunk_size(
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3{}x{}\r\nabc",
    " ",
    false
)]
#[case::chunk_size_before_extension(
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3{}x{};y\r\nabc",
    " ",
    false
)]
#[case::space_before_colon("GET / HTTP/1.1\r\n{} : x\r\n\r\n", "x", false)]
#[case::no_colon("GET / HTTP/1.1\r\n{}\r\n\r\n", "x", false)]
#[case::folded("GET / HTTP/1.1\r\n {}:\r\n\r\n", "x", false)]
#[case::cr_within("GET / HTTP/1.1\r\nx: {}\r{}\r\n\r\n", "x", false)]
#[case::nul_within("GET / HTTP/1.1\r\nx: {}\0{}\r\n\r\n", "x", false)]
#[case::bare_lf("GET / HTTP/1.1\r\nx: {}\n\r\n", "x", false)]
#[case::bare_lf_behind_cr("GET /{} HTTP/1.1\r\nx: \r{}\n\r\n", "x", false)]
#[case::chunk_end(
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na{}\r\n",
    "x",
    false
)]
fn a_line_of_any_length_in_any_pieces_means_the_same(
    #[case] text: &str,
    #[case] byte: &str,
    #[case] honest: bool,
) {
    for count in (1..100).chain([500, 5000]) {
        // The next request is found only if the end of this one is.
        let text = format!("{}GET /", filled(text, byte, count));
        for pieces in [1, 2, 7, 63, 64, 65, 10_000] {
            let mut framing = Framing::new(100_000);
            let found = text
                .as_bytes()
                .chunks(pieces)
                .try_for_each(|piece| framing.follow(piece));
            assert_eq!(
                found.is_ok(),
                honest,
                "{found:?}: {count} in pieces of {pieces}"
            );
            if honest {
                assert_eq!(framing.head_bytes(), "GET /".len());
            }
        }
    }
}

#[test]
fn what_is_kept_of_a_line_does_not_grow_with_it() {
    assert!(size_of::<Framing>() <= 192, "{}", size_of::<Framing>());
}

#[test]
fn a_head_is_counted_until_it_is_complete() {
    let mut framing = Framing::new(1000);
    let mut sent = 0;
    for piece in ["GET / HT", "TP/1.1\r\n", "Host: a\r\nx", ": y"] {
        framing.follow(piece.as_bytes()).unwrap();
        sent += piece.len();
        assert_eq!(framing.head_bytes(), sent);
    }
    framing.follow(b"\r\n\r\n").unwrap();
    assert_eq!(framing.head_bytes(), 0);
}
