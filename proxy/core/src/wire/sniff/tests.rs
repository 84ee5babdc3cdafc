use std::sync::Arc;

use proptest::prelude::*;
use rstest::rstest;
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs};

use super::*;

/// The result for a connection that sends `bytes` in chunks of `sizes` (the last one repeated), and then
/// ends.
fn told(bytes: &[u8], sizes: &[usize]) -> Result<DetectedProtocol, Malformed> {
    let mut sniffer = Sniffer::default();
    let mut sizes = sizes.iter().copied();
    let (mut end, mut size) = (0, 1);
    while end < bytes.len() {
        size = sizes.next().unwrap_or(size).max(1);
        end = (end + size).min(bytes.len());
        if let Some(spoken) = sniffer.look(&bytes[..end])? {
            return Ok(spoken);
        }
    }
    Sniffer::end(bytes)
}

/// A real client's first flight, with a post-quantum key share.
fn client_hello(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = name.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same handshake message in records of `size` bytes.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for fragment in hello[RECORD_HEADER..].chunks(size) {
        let length = u16::try_from(fragment.len()).unwrap();
        bytes.extend_from_slice(&hello[..3]);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(fragment);
    }
    bytes
}

/// A small `ClientHello` with these extensions.
fn with_extensions(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (kind, content) in extensions {
        block.extend_from_slice(&kind.to_be_bytes());
        block.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
        block.extend_from_slice(content);
    }
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0]);
    body.extend_from_slice(&u16::try_from(block.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&block);
    let mut message = vec![CLIENT_HELLO, 0];
    message.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend_from_slice(&body);
    let mut record = vec![HANDSHAKE, MAJOR, 1];
    record.extend_from_slice(&u16::try_from(message.len()).unwrap().to_be_bytes());
    record.extend_from_slice(&message);
    record
}

fn named(name: &str) -> DetectedProtocol {
    DetectedProtocol::Tls(ClientHello {
        server_name: Some(name.to_owned()),
        encrypted: false,
        early_data: false,
    })
}

const SLACK: &[u8] = b"\0\x0c\0\0\x09slack.com";

#[test]
fn a_real_hello_with_a_post_quantum_key_share_is_read() {
    let hello = client_hello("slack.com");
    assert!(
        hello.len() > 1216,
        "{} bytes hold no ML-KEM key",
        hello.len()
    );
    assert_eq!(told(&hello, &[hello.len()]), Ok(named("slack.com")));
    assert_eq!(told(&hello, &[1]), Ok(named("slack.com")));
}

#[test]
fn a_hello_cut_anywhere_is_not_complete() {
    let hello = client_hello("slack.com");
    for end in 1..hello.len() {
        let cut = told(&hello[..end], &[end]);
        assert!(
            cut == Err(Malformed("the ClientHello is not complete")),
            "cut at {end}: {cut:?}"
        );
    }
}

#[rstest]
#[case::no_extension(with_extensions(&[]), ClientHello::default())]
#[case::no_name(with_extensions(&[(43, &[2, 3, 4])]), ClientHello::default())]
#[case::name_last(with_extensions(&[(43, &[2, 3, 4]), (0, SLACK)]), ClientHello { server_name: Some("slack.com".into()), encrypted: false, early_data: false })]
#[case::hidden(with_extensions(&[(0, SLACK), (0xfe0d, &[0, 1])]), ClientHello { server_name: Some("slack.com".into()), encrypted: true, early_data: false })]
#[case::not_quite_hidden(with_extensions(&[(0, SLACK), (0xfe0e, &[0, 1])]), ClientHello { server_name: Some("slack.com".into()), encrypted: false, early_data: false })]
fn a_hello_tells(#[case] bytes: Vec<u8>, #[case] hello: ClientHello) {
    assert_eq!(told(&bytes, &[1]), Ok(DetectedProtocol::Tls(hello)));
}

#[rstest]
#[case::two_names(with_extensions(&[(0, SLACK), (0, SLACK)]))]
#[case::two_names_in_one(with_extensions(&[(0, b"\0\x18\0\0\x09slack.com\0\0\x09evil.test")]))]
#[case::empty_list(with_extensions(&[(0, b"\0\0")]))]
#[case::empty_name(with_extensions(&[(0, b"\0\x03\0\0\0")]))]
#[case::empty_extension(with_extensions(&[(0, b"")]))]
#[case::other_kind_of_name(with_extensions(&[(0, b"\0\x0c\x01\0\x09slack.com")]))]
#[case::list_too_long(with_extensions(&[(0, b"\0\x0d\0\0\x09slack.com")]))]
#[case::name_too_short(with_extensions(&[(0, b"\0\x0c\0\0\x08slack.com")]))]
#[case::not_ascii(with_extensions(&[(0, b"\0\x0c\0\0\x09sl\xc3\xa4k.com")]))]
#[case::empty_record(vec![22, 3, 1, 0, 0, 1])]
#[case::endless_record(vec![22, 3, 1, 0x40, 1, 1])]
#[case::endless_hello(vec![22, 3, 1, 0, 4, 1, 1, 0, 1])]
#[case::alert_within(vec![22, 3, 1, 0, 4, 1, 0, 0, 9, 21, 3, 3, 0, 2, 2, 40])]
#[case::empty_hello(vec![22, 3, 1, 0, 4, 1, 0, 0, 0])]
fn a_hello_may_not_contradict_itself(#[case] bytes: Vec<u8>) {
    let whole = told(&bytes, &[bytes.len()]);
    assert!(matches!(whole, Err(Malformed(_))), "{whole:?}");
    assert_eq!(told(&bytes, &[1]), whole);
}

#[rstest]
#[case(b"GET / HTTP/1.1\r\nHost: slack.com\r\n\r\n", DetectedProtocol::Http1)]
#[case(b"POST http://slack.com/api HTTP/1.0\r\n\r\n", DetectedProtocol::Http1)]
#[case(b"CONNECT slack.com:443 HTTP/1.1\r\n", DetectedProtocol::Http1)]
#[case(b"get / HTTP/1.1\n", DetectedProtocol::Http1)]
#[case(b"GET /\xc3\xa4 HTTP/1.1\r\n", DetectedProtocol::Http1)]
#[case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", DetectedProtocol::Http2)]
#[case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", DetectedProtocol::Http2)]
#[case(b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n", DetectedProtocol::Unknown)]
#[case(b"PRI * HTTP/2.0\r\n", DetectedProtocol::Unknown)]
#[case(b"GET / HTTP/1.1", DetectedProtocol::Unknown)]
#[case(b"GET / HTTP/2.0\r\n", DetectedProtocol::Unknown)]
#[case(b"GET /\r\n", DetectedProtocol::Unknown)]
#[case(b"get key\r\n", DetectedProtocol::Unknown)]
#[case(b"SSH-2.0-OpenSSH_9.6 Debian-4\r\n", DetectedProtocol::Unknown)]
#[case(b"EHLO slack.com\r\n", DetectedProtocol::Unknown)]
#[case(b" GET / HTTP/1.1\r\n", DetectedProtocol::Unknown)]
#[case(b"GET\t/ HTTP/1.1\r\n", DetectedProtocol::Unknown)]
#[case(b"GET / HTTP/1.1\0\r\n", DetectedProtocol::Unknown)]
#[case(b"\0", DetectedProtocol::Unknown)]
#[case(b"\x16\x02\x01", DetectedProtocol::Unknown)]
#[case(b"\x16\x03\x01\0\x04\x02\0\0\0", DetectedProtocol::Unknown)]
#[case(b"", DetectedProtocol::Unknown)]
fn other_protocols_are_told(#[case] bytes: &[u8], #[case] spoken: DetectedProtocol) {
    assert_eq!(told(bytes, &[1]), Ok(spoken.clone()));
    assert_eq!(told(bytes, &[bytes.len()]), Ok(spoken));
}

#[test]
fn what_is_no_method_is_known_before_its_line_ends() {
    let mut sniffer = Sniffer::default();
    assert_eq!(sniffer.look(&[b'A'; LONGEST_METHOD]), Ok(None));
    let longer = [b'A'; LONGEST_METHOD + 1];
    assert_eq!(sniffer.look(&longer), Ok(Some(DetectedProtocol::Unknown)));
    assert_eq!(
        Sniffer::default().look(b"A\"B"),
        Ok(Some(DetectedProtocol::Unknown))
    );
}

proptest! {
    #[test]
    fn any_split_of_a_hello_gives_the_same_answer(
        sizes in prop::collection::vec(1_usize..600, 1..20),
        record in 1_usize..2000,
        behind in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let mut hello = in_records(&client_hello("files.slack.com"), record);
        prop_assert_eq!(told(&hello, &sizes), Ok(named("files.slack.com")));
        hello.extend_from_slice(&behind);
        prop_assert_eq!(told(&hello, &sizes), Ok(named("files.slack.com")));
    }

    #[test]
    fn garbage_is_told_without_a_panic_and_however_it_is_cut(
        mut bytes in prop::collection::vec(any::<u8>(), 0..4000),
        as_tls in any::<bool>(),
        sizes in prop::collection::vec(1_usize..600, 1..20),
    ) {
        if as_tls && bytes.len() > 5 {
            bytes[..6].copy_from_slice(&[22, 3, 1, 0, 200, 1]);
        }
        prop_assert_eq!(told(&bytes, &sizes), told(&bytes, &[bytes.len()]));
    }

    #[test]
    fn a_damaged_hello_is_told_however_it_is_cut(
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
        sizes in prop::collection::vec(1_usize..600, 1..20),
    ) {
        let mut hello = client_hello("slack.com");
        let at = at.index(hello.len());
        hello[at] = to;
        prop_assert_eq!(told(&hello, &sizes), told(&hello, &[hello.len()]));
    }
}
