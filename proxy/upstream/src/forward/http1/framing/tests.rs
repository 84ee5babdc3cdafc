use rstest::rstest;

use super::*;

/// Follows a response at once, and byte by byte; both must find the same. Says what was found, and
/// whether the connection may serve another request.
fn follow(asked: Asked, text: &str) -> (Result<(), LineError>, bool) {
    let found = [text.len().max(1), 1].map(|size| {
        let (progress, mut framing) = (Progress::default(), Framing::new(100));
        progress.ask(asked);
        let followed = text
            .as_bytes()
            .chunks(size)
            .try_for_each(|bytes| framing.follow(bytes, &progress));
        assert_eq!(progress.has_begun(), !text.is_empty());
        (followed, !progress.is_last())
    });
    assert_eq!(found[0], found[1]);
    found[0]
}

#[rstest]
#[case::length("200 OK\r\nContent-Length: 3\r\n\r\na\nb")]
#[case::no_length_but_zero("200 OK\r\ncontent-length:0\r\n\r\n")]
#[case::no_reason("200\r\nContent-Length: 0\r\n\r\n")]
#[case::same_lengths("200 OK\r\nContent-Length: 1, 1\r\nContent-Length: 1\r\n\r\na")]
#[case::chunked("200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=\"y\"\r\na\nb\r\n0\r\n\r\n")]
#[case::trailers("200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na: b\r\nc: d\r\n\r\n")]
#[case::no_content("204 No Content\r\n\r\n")]
#[case::not_modified("304 Not Modified\r\nContent-Length: 100\r\n\r\n")]
#[case::interim("100 Continue\r\n\r\nHTTP/1.1 103 \r\nLink: a\r\n\r\nHTTP/1.1 204 \r\n\r\n")]
fn an_honest_response_ends_where_the_next_begins(#[case] response: &str) {
    let response = format!("HTTP/1.1 {response}");
    assert_eq!(follow(Asked::Content, &response), (Ok(()), true));
    // One byte more is one that nobody asked for, and the connection is not used again.
    let more = format!("{response}H");
    assert_eq!(follow(Asked::Content, &more), (Ok(()), false));
}

#[rstest]
#[case::length("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")]
#[case::chunked("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")]
#[case::neither("HTTP/1.1 200 OK\r\n\r\n")]
fn a_response_to_head_ends_with_its_head(#[case] response: &str) {
    assert_eq!(follow(Asked::Head, response), (Ok(()), true));
    let body = format!("{response}body");
    assert_eq!(follow(Asked::Head, &body), (Ok(()), false));
}

/// They are read, but leave doubt about where they end.
#[rstest]
#[case::t76_both("200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")]
#[case::t76_both_turned(
    "200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"
)]
#[case::no_content_with_length("204 No Content\r\nContent-Length: 3\r\n\r\n")]
#[case::no_content_with_chunks("204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n")]
fn a_doubtful_response_is_the_last_of_its_connection(#[case] response: &str) {
    let response = format!("HTTP/1.1 {response}");
    assert_eq!(follow(Asked::Content, &response), (Ok(()), false));
}

#[rstest]
#[case::bare_lf("HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n")]
#[case::bare_lf_at_the_end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n")]
#[case::bare_cr("HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n")]
#[case::cr_in_the_reason("HTTP/1.1 200 O\rK\r\n\r\n")]
#[case::nul("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n")]
#[case::folded("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n")]
#[case::folded_at_once("HTTP/1.1 200 OK\r\n A: b\r\n\r\n")]
#[case::no_colon("HTTP/1.1 200 OK\r\nA\r\n\r\n")]
#[case::no_name("HTTP/1.1 200 OK\r\n: a\r\n\r\n")]
#[case::space_before_colon("HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n")]
#[case::empty_line_before("\r\nHTTP/1.1 200 OK\r\n\r\n")]
#[case::http2("HTTP/2.0 200 OK\r\n\r\n")]
#[case::lower_case("http/1.1 200 OK\r\n\r\n")]
#[case::short_status("HTTP/1.1 20 OK\r\n\r\n")]
#[case::long_status("HTTP/1.1 2000 OK\r\n\r\n")]
#[case::small_status("HTTP/1.1 099 OK\r\n\r\n")]
#[case::signed_status("HTTP/1.1 +20 OK\r\n\r\n")]
#[case::no_status("HTTP/1.1\r\n\r\n")]
#[case::different_lengths("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")]
#[case::different_in_a_list("HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n")]
#[case::signed_length("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n")]
#[case::negative_length("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n")]
#[case::hexadecimal_length("HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\n")]
#[case::no_length("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n")]
#[case::endless_length("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n")]
#[case::coding_list("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")]
#[case::chunked_not_last("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n")]
#[case::identity("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n")]
#[case::unknown_coding("HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n")]
#[case::no_coding("HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n")]
#[case::twice_chunked(
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
)]
#[case::old_with_coding("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")]
#[case::unasked_switch("HTTP/1.1 101 Switching Protocols\r\n\r\n")]
#[case::odd_chunk("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n")]
#[case::chunk_too_long("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n")]
#[case::chunk_with_lf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n")]
#[case::huge_chunk(
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\na\r\n"
)]
#[case::trailer_without_colon(
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na\r\n\r\n"
)]
fn what_clients_read_differently_is_a_fault(#[case] response: &str) {
    let (found, reusable) = follow(Asked::Content, response);
    assert!(found.is_err());
    assert!(!reusable);
}

#[test]
fn interim_responses_have_a_bound() {
    let interim = "HTTP/1.1 103 \r\n\r\n";
    let most = interim.repeat(usize::from(MOST_INTERIM));
    let end = "HTTP/1.1 204 \r\n\r\n";
    let (found, _) = follow(Asked::Content, &format!("{most}{end}"));
    assert_eq!(found, Ok(()));
    let (found, _) = follow(Asked::Content, &format!("{most}{interim}{end}"));
    assert_eq!(found, Err(MANY_INTERIM));
}

#[test]
fn behind_a_switch_that_was_asked_for_anything_may_come() {
    let text = "HTTP/1.1 101 \r\n\r\nanything\nat all\0";
    assert_eq!(follow(Asked::Upgrade, text), (Ok(()), true));
}

#[test]
fn a_line_without_end_is_not_kept() {
    let (found, _) = follow(Asked::Content, &"x".repeat(101));
    assert_eq!(found, Err(LONG_LINE));
}

#[test]
fn bytes_before_any_request_are_nobodys_response() {
    let (progress, mut framing) = (Progress::default(), Framing::new(100));
    let early = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(framing.follow(early, &progress), Ok(()));
    assert!(progress.is_last());
    assert!(!progress.has_begun());
}
