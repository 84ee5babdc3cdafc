use rstest::rstest;

use super::*;

/// What became of a client's bytes: each name, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct ResponseMeta {
    names: Vec<String>,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// All was let go, and what follows is looked at.
    Watched,
    /// All was let go, and what follows is not looked at.
    Free,
    /// So many bytes wait for more.
    Held(usize),
    Refused(Reason),
}

/// Looks at bytes as they come, in pieces of `size`.
fn look(bytes: &[u8], size: usize) -> ResponseMeta {
    let mut watch = Watch::new(4096);
    let (mut held, mut names) = (Vec::new(), Vec::new());
    let mut end = End::Watched;
    for piece in bytes.chunks(size) {
        if end == End::Free {
            break;
        }
        held.extend_from_slice(piece);
        end = End::Watched;
        while !held.is_empty() {
            let passed = match watch.look(&held) {
                Look::More => {
                    end = End::Held(held.len());
                    break;
                }
                Look::Pass(count) => count,
                Look::Names(named, count) => {
                    names.push(format!(
                        "{:?} {}{}",
                        named.by,
                        named.host.map_or("-".to_owned(), |host| host.to_string()),
                        if named.hidden { " hidden" } else { "" }
                    ));
                    count
                }
                Look::Free => {
                    end = End::Free;
                    break;
                }
                Look::Refuse(refusal) => {
                    let end = End::Refused(refusal.reason);
                    return ResponseMeta { names, end };
                }
            };
            held.drain(..passed);
        }
    }
    ResponseMeta { names, end }
}

/// At once and byte by byte, which must come to the same.
fn meta(bytes: &[u8]) -> ResponseMeta {
    let at_once = look(bytes, bytes.len().max(1));
    for size in [1, 3] {
        assert_eq!(look(bytes, size), at_once, "in pieces of {size}");
    }
    at_once
}

#[track_caller]
fn check(bytes: &[u8], names: &[&str], end: End) {
    let names = names.iter().map(ToString::to_string).collect();
    assert_eq!(meta(bytes), ResponseMeta { names, end });
}

/// A `ClientHello` with these extensions, in records of at most `fragment` bytes.
fn hello(extensions: &[(u16, Vec<u8>)], fragment: usize) -> Vec<u8> {
    let block = |content: &[u8]| {
        let length = u16::try_from(content.len()).expect("short");
        [&length.to_be_bytes()[..], content].concat()
    };
    let all: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, content)| [&kind.to_be_bytes()[..], &block(content)].concat())
        .collect();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(block(&all));
    let mut message = vec![CLIENT_HELLO, 0];
    message.extend(block(&body));
    message
        .chunks(fragment)
        .flat_map(|part| [&[HANDSHAKE, 3, 1][..], &block(part)].concat())
        .collect()
}

fn named(name: &str) -> (u16, Vec<u8>) {
    let length = u8::try_from(name.len()).expect("short");
    let mut content = vec![0, length + 3, 0, 0, length];
    content.extend(name.as_bytes());
    (0, content)
}

const EARLY: (u16, Vec<u8>) = (42, Vec::new());
const WHOLE: usize = 4096;

#[rstest]
#[case::name(hello(&[named("Slack.COM.")], WHOLE), &["Tls slack.com"], End::Watched)]
#[case::in_fragments(hello(&[named("slack.com")], 7), &["Tls slack.com"], End::Watched)]
#[case::no_name(hello(&[], WHOLE), &["Tls -"], End::Watched)]
#[case::address(hello(&[named("192.0.2.1")], WHOLE), &["Tls -"], End::Watched)]
#[case::outer_name(hello(&[named("slack.com"), (0xfe0d, vec![0])], WHOLE), &["Tls slack.com hidden"], End::Watched)]
#[case::no_host(hello(&[named("slack..com")], WHOLE), &[], End::Refused(Reason::AuthorityInvalid))]
#[case::two_names(hello(&[named("a.test"), named("slack.com")], WHOLE), &[], End::Refused(Reason::ClientTls))]
#[case::half(hello(&[named("slack.com")], WHOLE)[..30].to_vec(), &[], End::Held(30))]
fn a_hello_tells_its_name(#[case] bytes: Vec<u8>, #[case] names: &[&str], #[case] end: End) {
    check(&bytes, names, end);
}

/// OpenSSL passes over warnings before a hello.
#[rstest]
#[case::alert(&[21, 3, 1, 0, 2, 1, 90])]
#[case::change_of_cipher(&[20, 3, 3, 0, 1, 1])]
#[case::data(&[23, 3, 3, 0, 1, 1])]
#[case::nothing(&[22, 3, 1, 0, 0])]
fn no_other_record_stands_before_a_hello(#[case] before: &[u8]) {
    let bytes = [before, &hello(&[named("slack.com")], WHOLE)].concat();
    check(&bytes, &[], End::Refused(Reason::ClientTls));
}

/// A server that lacks a key share asks for the hello again, which is in clear too.
#[rstest]
#[case::again(&[], &hello(&[named("slack.com")], WHOLE), &["Tls a.test", "Tls slack.com"], End::Watched)]
#[case::again_in_fragments(&[], &hello(&[named("slack.com")], 5), &["Tls a.test", "Tls slack.com"], End::Watched)]
#[case::behind_a_change_of_cipher(&[20, 3, 3, 0, 1, 1], &hello(&[named("slack.com")], WHOLE), &["Tls a.test", "Tls slack.com"], End::Watched)]
#[case::encrypted(&[20, 3, 3, 0, 1, 1], &[23, 3, 3, 0, 2, 9, 9], &["Tls a.test"], End::Free)]
#[case::tls12_key_exchange(&[], &[22, 3, 3, 0, 2, 16, 0], &["Tls a.test"], End::Free)]
#[case::tls12_finished(&[20, 3, 3, 0, 1, 1], &[22, 3, 3, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0], &["Tls a.test"], End::Free)]
#[case::alert(&[], &[21, 3, 3, 0, 2, 2, 48], &["Tls a.test"], End::Watched)]
#[case::behind_a_warning(&[21, 3, 3, 0, 2, 1, 90], &hello(&[named("slack.com")], WHOLE), &["Tls a.test", "Tls slack.com"], End::Watched)]
#[case::encrypted_alert(&[], &[21, 3, 3, 0, 26, 0, 0], &["Tls a.test"], End::Free)]
fn a_hello_is_looked_at_again(
    #[case] between: &[u8],
    #[case] then: &[u8],
    #[case] names: &[&str],
    #[case] end: End,
) {
    let first = hello(&[named("a.test")], WHOLE);
    check(&[&first, between, then].concat(), names, end);
}

#[test]
fn a_hello_behind_early_data_is_looked_at() {
    let first = hello(&[named("a.test"), EARLY], WHOLE);
    let early = [23, 3, 3, 0, 4, 1, 2, 3, 4];
    let second = hello(&[named("slack.com")], WHOLE);
    let bytes = [&first[..], &early, &early, &second].concat();
    check(&bytes, &["Tls a.test", "Tls slack.com"], End::Watched);
}

#[rstest]
#[case::host("GET / HTTP/1.1\r\nHost: Slack.com:80\r\n\r\n", &["Http slack.com"])]
#[case::empty_lines_before("\r\n\r\nGET / HTTP/1.1\r\nHost: slack.com\r\n\r\n", &["Http slack.com"])]
#[case::absolute("GET http://slack.com/a HTTP/1.1\r\nHost: slack.com\r\n\r\n", &["Http slack.com"])]
#[case::old_absolute("GET http://slack.com:8080 HTTP/1.0\r\n\r\n", &["Http slack.com"])]
#[case::old("GET / HTTP/1.0\r\n\r\n", &["Http -"])]
#[case::empty_host("GET / HTTP/1.1\r\nHost:\r\n\r\n", &["Http -"])]
#[case::next_request(
    "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nGET /GET / HTTP/1.1\r\nHost: slack.com\r\n\r\n",
    &["Http a.test", "Http slack.com"]
)]
#[case::behind_chunks(
    "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nt: 1\r\n\r\nGET / HTTP/1.1\r\nHost: slack.com\r\n\r\n",
    &["Http a.test", "Http slack.com"]
)]
#[case::pipelined(
    "GET / HTTP/1.1\r\nHost: a.test\r\n\r\nGET / HTTP/1.1\r\nHost: slack.com\r\n\r\n",
    &["Http a.test", "Http slack.com"]
)]
#[case::declined_upgrade(
    "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\r\nHost: slack.com\r\n\r\n",
    &["Http a.test", "Http slack.com"]
)]
#[case::a_proxys_tunnel("CONNECT slack.com:443 HTTP/1.1\r\n\r\n", &["Http slack.com"])]
fn a_request_in_clear_tells_its_host(#[case] text: &str, #[case] names: &[&str]) {
    check(text.as_bytes(), names, End::Watched);
}

#[rstest]
#[case::upgraded("GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n\r\n")]
#[case::a_proxys_tunnel("CONNECT a.test:443 HTTP/1.1\r\n\r\n")]
fn another_protocol_on_the_connection_is_looked_at(#[case] text: &str) {
    let tls = hello(&[named("slack.com")], WHOLE);
    let bytes = [text.as_bytes(), &tls].concat();
    check(&bytes, &["Http a.test", "Tls slack.com"], End::Watched);
    let frame = [text.as_bytes(), &[0x81, 0x83, 1, 2, 3, 4, b'H', b'i']].concat();
    check(&frame, &["Http a.test"], End::Free);
}

#[rstest]
#[case::two_hosts(
    "GET / HTTP/1.1\r\nHost: a.test\r\nHost: slack.com\r\n\r\n",
    Reason::RequestMalformed
)]
#[case::uri_and_host(
    "GET http://slack.com/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
    Reason::RequestMalformed
)]
#[case::bare_line_feeds("GET / HTTP/1.1\nHost: slack.com\n\n", Reason::RequestMalformed)]
#[case::both_lengths(
    "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    Reason::RequestMalformed
)]
#[case::folded(
    "GET / HTTP/1.1\r\nHost: a.test\r\n slack.com\r\n\r\n",
    Reason::RequestMalformed
)]
#[case::userinfo(
    "GET / HTTP/1.1\r\nHost: a.test@slack.com\r\n\r\n",
    Reason::AuthorityInvalid
)]
#[case::percent(
    "GET / HTTP/1.1\r\nHost: slack%2ecom\r\n\r\n",
    Reason::AuthorityInvalid
)]
#[case::unicode(
    "GET / HTTP/1.1\r\nHost: \u{17f}lack.com\r\n\r\n",
    Reason::AuthorityInvalid
)]
#[case::lower_case("get / http/1.1\r\nHost: slack.com\r\n\r\n", Reason::RequestMalformed)]
#[case::odd_version("GET / HTTP/1.10\r\nHost: slack.com\r\n\r\n", Reason::RequestMalformed)]
#[case::blank_behind("GET / HTTP/1.1 \r\nHost: slack.com\r\n\r\n", Reason::RequestMalformed)]
#[case::blank_before(" GET / HTTP/1.1\r\nHost: slack.com\r\n\r\n", Reason::RequestMalformed)]
#[case::tabs(
    "GET\t/\tHTTP/1.1\r\nHost: slack.com\r\n\r\n",
    Reason::RequestMalformed
)]
#[case::two_blanks("GET  / HTTP/1.1\r\nHost: slack.com\r\n\r\n", Reason::RequestMalformed)]
#[case::odd_target(
    "GET slack.com HTTP/1.1\r\nHost: slack.com\r\n\r\n",
    Reason::RequestMalformed
)]
#[case::load_balancer(
    "PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\nGET / HTTP/1.1\r\nHost: slack.com\r\n\r\n",
    Reason::TunnelUnreadable
)]
#[case::load_balancers_other("\r\n\r\n\0\r\nQUIT\n!", Reason::TunnelUnreadable)]
#[case::http2("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason::TunnelUnreadable)]
#[case::later_request(
    "GET / HTTP/1.1\r\nHost: a.test\r\n\r\nget / http/1.1\r\nHost: slack.com\r\n\r\n",
    Reason::RequestMalformed
)]
fn what_servers_may_read_in_another_way_is_refused(#[case] text: &str, #[case] reason: Reason) {
    assert_eq!(meta(text.as_bytes()).end, End::Refused(reason));
}

#[rstest]
#[case::ssh(b"SSH-2.0-OpenSSH_9.9\r\n")]
#[case::smtp(b"EHLO client.test\r\n")]
#[case::redis(b"*1\r\n$4\r\nPING\r\n")]
#[case::nats(b"CONNECT {\"verbose\":false}\r\n")]
#[case::postgres(&[0, 0, 0, 8, 4, 210, 22, 47])]
#[case::amqp(b"AMQP\0\0\x09\x01")]
#[case::another_handshake(&[22, 3, 1, 0, 4, 2, 0, 0, 0])]
fn other_protocols_pass(#[case] bytes: &[u8]) {
    check(bytes, &[], End::Free);
}

#[rstest]
#[case::hello(b"hello", End::Watched)]
#[case::method(b"GET / HTTP/1.1", End::Held(14))]
#[case::head(b"GET / HTTP/1.1\r\nHost: a.test\r\n", End::Held(30))]
fn a_line_is_held_back_only_if_it_may_be_a_request(#[case] bytes: &[u8], #[case] end: End) {
    check(bytes, &[], end);
}

#[rstest]
#[case::line(format!("GET /{}", "a".repeat(9000)), Reason::TunnelUnreadable)]
#[case::blanks("\r\n".repeat(5000), Reason::TunnelUnreadable)]
#[case::head(format!("GET / HTTP/1.1\r\nX: {}\r\n", "a".repeat(5000)), Reason::HeadTooLarge)]
fn what_never_ends_is_bounded(#[case] text: String, #[case] reason: Reason) {
    assert_eq!(look(text.as_bytes(), 100).end, End::Refused(reason));
}

#[rstest]
#[case(&hello(&[named("slack.com")], WHOLE)[..30], Some(Reason::ClientTls))]
#[case(
    b"GET / HTTP/1.1\r\nHost: slack.com\r\n",
    Some(Reason::RequestMalformed)
)]
#[case(b"GET / HT", None)]
fn what_ends_too_early_is_not_carried(#[case] held: &[u8], #[case] reason: Option<Reason>) {
    let mut watch = Watch::new(4096);
    assert!(matches!(watch.look(held), Look::More));
    let refused = match watch.ended(held) {
        Look::Refuse(refusal) => Some(refusal.reason),
        _ => None,
    };
    assert_eq!(refused, reason);
}
