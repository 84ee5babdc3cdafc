//! The two heads of a WebSocket handshake, and whether the response matches the request (RFC 6455, sections
//! 4.1 and 4.2).

use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, UPGRADE,
    },
};

/// What a server appends to the key before it hashes it.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The length of a key, in bytes.
const KEY: usize = 16;

/// The parts of a client's request that the response must match.
#[derive(Debug)]
pub(super) struct Handshake {
    accept: String,
    protocols: Vec<HeaderValue>,
    extensions: Vec<HeaderValue>,
}

/// Whether `headers` ask for a WebSocket and nothing else: `Upgrade: websocket`, nominated by `Connection`,
/// and one key.
pub fn asks(headers: &HeaderMap) -> bool {
    is_nominated(headers) && Handshake::of(headers).is_some()
}

impl Handshake {
    /// The handshake in a request's headers; `None` if they are not one.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let key = only(headers, &SEC_WEBSOCKET_KEY).filter(|_| is_websocket(headers))?;
        let bytes = BASE64_STANDARD.decode(key).ok()?;
        if bytes.len() != KEY {
            return None;
        }
        let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        hash.update(key.as_bytes());
        hash.update(GUID.as_bytes());
        let all = |name| headers.get_all(name).iter().cloned().collect();
        Some(Self {
            accept: BASE64_STANDARD.encode(hash.finish()),
            protocols: all(SEC_WEBSOCKET_PROTOCOL),
            extensions: all(SEC_WEBSOCKET_EXTENSIONS),
        })
    }

    /// Checks the headers of a 101; returns what is wrong with them.
    pub(super) fn check(&self, answer: &HeaderMap) -> Result<(), &'static str> {
        if !is_websocket(answer) {
            return Err("it does not switch to `websocket`");
        }
        if !is_nominated(answer) {
            return Err("its `Connection` does not say `upgrade`");
        }
        if only(answer, &SEC_WEBSOCKET_ACCEPT) != Some(&self.accept) {
            return Err("its Sec-WebSocket-Accept does not fit the key");
        }
        let chosen = answer.get_all(SEC_WEBSOCKET_PROTOCOL);
        if chosen.iter().count() > 1 || !all_offered(chosen.iter(), &self.protocols, false) {
            return Err("its Sec-WebSocket-Protocol was not offered");
        }
        let chosen = answer.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
        if !all_offered(chosen, &self.extensions, true) {
            return Err("its Sec-WebSocket-Extensions were not offered");
        }
        Ok(())
    }
}

/// The value of a header that occurs once, without the space around it.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().map(str::trim),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

fn is_websocket(headers: &HeaderMap) -> bool {
    only(headers, &UPGRADE).is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"))
}

fn is_nominated(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(tokens)
        .any(|token| token.eq_ignore_ascii_case(b"upgrade"))
}

/// Whether everything chosen was offered; an `extension` is compared by name, without parameters.
fn all_offered<'v>(
    mut chosen: impl Iterator<Item = &'v HeaderValue>,
    offered: &[HeaderValue],
    extension: bool,
) -> bool {
    let name = |token: &'v [u8]| match token.iter().position(|byte| *byte == b';') {
        Some(end) if extension => token[..end].trim_ascii(),
        Some(_) | None => token,
    };
    let is_offered = |token: &[u8]| {
        offered.iter().flat_map(tokens).any(|offer| {
            offer
                .split(|byte| *byte == b';')
                .next()
                .map(<[u8]>::trim_ascii)
                == Some(token)
        })
    };
    chosen.all(|value| tokens(value).map(name).all(is_offered))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let tokens = value.as_bytes().split(|byte| *byte == b',');
    tokens.map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// The example of RFC 6455, section 1.3.
    const ASKED: &str = "connection: keep-alive, Upgrade\nupgrade: WebSocket\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\nsec-websocket-protocol: chat, superchat\n\
        sec-websocket-extensions: permessage-deflate; client_max_window_bits, x-other";
    const ANSWERED: &str = "connection: Upgrade\nupgrade: websocket\n\
        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\nsec-websocket-protocol: chat\n\
        sec-websocket-extensions: permessage-deflate; server_no_context_takeover";

    fn headers(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in text.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_rfcs_example_is_a_handshake() {
        assert!(asks(&headers(ASKED)));
        let handshake = Handshake::of(&headers(ASKED)).unwrap();
        assert_eq!(handshake.check(&headers(ANSWERED)), Ok(()));
        let least = ANSWERED.split("\nsec-websocket-protocol").next().unwrap();
        assert_eq!(handshake.check(&headers(least)), Ok(()));
    }

    #[rstest]
    #[case::no_connection("connection: keep-alive, Upgrade", "connection: close")]
    #[case::no_upgrade("upgrade: WebSocket", "x-upgrade: websocket")]
    #[case::h2c("WebSocket", "h2c")]
    #[case::a_list("WebSocket", "websocket, h2c")]
    #[case::two("upgrade: WebSocket", "upgrade: websocket\nupgrade: h2c")]
    #[case::no_key("sec-websocket-key", "sec-websocket-lock")]
    #[case::short_key("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==")]
    #[case::no_base64("dGhlIHNhbXBsZSBub25jZQ==", "not base64!")]
    #[case::two_keys("\nsec-websocket-key", "\nsec-websocket-key: a\nsec-websocket-key")]
    fn what_is_no_handshake_asks_for_nothing(#[case] from: &str, #[case] to: &str) {
        let changed = ASKED.replace(from, to);
        assert_ne!(changed, ASKED);
        assert!(!asks(&headers(&changed)));
    }

    #[rstest]
    #[case::no_connection("connection: Upgrade\n", "")]
    #[case::other_connection("connection: Upgrade", "connection: close")]
    #[case::no_upgrade("upgrade: websocket\n", "")]
    #[case::h2c("websocket\nsec", "h2c\nsec")]
    #[case::a_list("websocket\nsec", "websocket, h2c\nsec")]
    #[case::near_miss("websocket\nsec", "websockets\nsec")]
    #[case::no_accept("sec-websocket-accept", "x-accept")]
    #[case::wrong_accept("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "s3pPLMBiTxaQ9kYGzzhZRbK+xOO=")]
    #[case::accept_in_other_case("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "S3pPLMBiTxaQ9kYGzzhZRbK+xOo=")]
    #[case::the_key_itself("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "dGhlIHNhbXBsZSBub25jZQ==")]
    #[case::two_accepts(
        "\nsec-websocket-protocol",
        "\nsec-websocket-accept: a\nsec-websocket-protocol"
    )]
    #[case::other_protocol("protocol: chat", "protocol: chatter")]
    #[case::two_protocols("protocol: chat", "protocol: chat, superchat, x")]
    #[case::protocol_twice(
        "sec-websocket-protocol: chat",
        "sec-websocket-protocol: chat\nsec-websocket-protocol: superchat"
    )]
    #[case::other_extension("permessage-deflate", "permessage-bzip2")]
    fn t74_what_does_not_fit_is_no_answer(#[case] from: &str, #[case] to: &str) {
        let handshake = Handshake::of(&headers(ASKED)).unwrap();
        let changed = ANSWERED.replace(from, to);
        assert_ne!(changed, ANSWERED);
        assert!(handshake.check(&headers(&changed)).is_err());
    }

    #[rstest]
    #[case::protocol("sec-websocket-protocol: chat")]
    #[case::extension("sec-websocket-extensions: permessage-deflate")]
    fn t74_what_was_not_offered_is_not_chosen(#[case] chosen: &str) {
        let asked = ASKED.split("\nsec-websocket-protocol").next().unwrap();
        let answer = ANSWERED.split("\nsec-websocket-protocol").next().unwrap();
        let handshake = Handshake::of(&headers(asked)).unwrap();
        assert_eq!(handshake.check(&headers(answer)), Ok(()));
        let changed = format!("{answer}\n{chosen}");
        assert!(handshake.check(&headers(&changed)).is_err());
    }
}
