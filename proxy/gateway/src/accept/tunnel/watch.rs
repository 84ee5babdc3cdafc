//! Finds the destinations that a client names in a tunnel, from its bytes as they arrive: the name in each
//! `ClientHello` that is not encrypted, and the host of each HTTP/1 request.
//!
//! Nothing here reads a socket. Bytes that cannot be a request or a `ClientHello` are not inspected, so
//! that other protocols pass unchanged.

use countersign_authorize::{ShownBy, ShownName};
use countersign_config::host::Host;
use countersign_core::{
    reason::Reason,
    wire::sniff::{self, DetectedProtocol, Malformed, Sniffer},
};

use super::{look::Look, requests::Requests};
use crate::refusal::Refusal;

/// The longest first line that is waited for, in bytes.
const LONGEST_LINE: usize = 8 * 1024;

/// The PROXY header that a load balancer puts before a connection; version 1 is a line.
const PROXY_V1: &[u8] = b"PROXY ";
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

const RECORD_HEADER: usize = 5;
/// RFC 8446, section 5.1.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// RFC 8446, section 4.
const CLIENT_HELLO: u8 = 1;

/// Inspects the bytes of one client.
#[derive(Debug)]
pub(super) struct Watch {
    state: State,
    head_bytes: usize,
}

#[derive(Debug)]
enum State {
    /// The protocol is not known.
    Opening(Sniffer),
    /// A line that is not a request; kept to detect one that a lenient server would accept.
    Line(Vec<u8>),
    /// HTTP/1.
    Requests(Box<Requests>),
    /// After a `ClientHello`. A server may ask for a second one in clear text (RFC 8446, section 4.1.2),
    /// also after early data.
    Greeted { early_data: bool, again: Sniffer },
    /// Within a record of early data.
    Early(usize),
    /// Nothing more is inspected.
    Free,
}

impl Watch {
    /// A watch over a client that has sent nothing. No head may be larger than `head_bytes`.
    pub(super) fn new(head_bytes: usize) -> Self {
        Self {
            state: State::Opening(Sniffer::default()),
            head_bytes,
        }
    }

    /// Inspects the bytes that are held back: all that were not passed on, from the first.
    pub(super) fn look(&mut self, held: &[u8]) -> Look {
        let look = match &mut self.state {
            State::Opening(sniffer) if sniff::begins_as_tls(held) => match sniffer.look(held) {
                Ok(None) => Look::More,
                Ok(Some(DetectedProtocol::Tls(hello))) => {
                    let told = sniffer.hello_length();
                    self.state = State::Greeted {
                        early_data: hello.early_data,
                        again: Sniffer::default(),
                    };
                    names(&hello, told)
                }
                Ok(Some(
                    DetectedProtocol::Http1 | DetectedProtocol::Http2 | DetectedProtocol::Unknown,
                )) => Look::Free,
                Err(Malformed(what)) => Look::Refuse(Refusal::new(Reason::ClientTls, what)),
            },
            State::Opening(_) if begins_oddly(held) => Look::Refuse(Refusal::new(
                Reason::ClientTls,
                "another record stands before the ClientHello",
            )),
            State::Opening(_) => self.opening(held),
            State::Line(line) => further(line, held),
            State::Requests(requests) => match requests.look(held, self.head_bytes) {
                Ok(look) => look,
                Err(refusal) => Look::Refuse(refusal),
            },
            State::Greeted { early_data, again } => match greeted(held, *early_data, again) {
                Greeted::Look(look) => look,
                Greeted::Early(length) => {
                    self.state = State::Early(length);
                    return self.look(held);
                }
            },
            State::Early(left) => {
                let here = held.len().min(*left);
                *left -= here;
                if *left == 0 {
                    self.state = State::Greeted {
                        early_data: true,
                        again: Sniffer::default(),
                    };
                }
                Look::Pass(here)
            }
            State::Free => Look::Free,
        };
        if let Look::Free = look {
            self.state = State::Free;
        }
        if let State::Requests(requests) = &self.state
            && requests.has_switched()
        {
            self.state = State::Opening(Sniffer::default());
        }
        look
    }

    /// What to do with the bytes that are held back when the client has ended.
    pub(super) fn ended(&self, held: &[u8]) -> Look {
        match &self.state {
            State::Opening(_) if sniff::begins_as_tls(held) => {
                let detail = "the ClientHello is not complete";
                Look::Refuse(Refusal::new(Reason::ClientTls, detail))
            }
            State::Requests(_) => {
                let detail = "the client stopped within the head of a request";
                Look::Refuse(Refusal::new(Reason::RequestMalformed, detail))
            }
            State::Opening(_)
            | State::Line(_)
            | State::Greeted { .. }
            | State::Early(_)
            | State::Free => Look::Free,
        }
    }

    /// The first line, unless it is TLS. A server ignores empty lines before it (RFC 9112,
    /// section 2.2).
    fn opening(&mut self, held: &[u8]) -> Look {
        if held.starts_with(PROXY_V2) {
            return proxy_header();
        }
        let empty = held.iter().take_while(|byte| b"\r\n".contains(byte));
        let line = &held[empty.count()..];
        if line.is_empty() || PROXY_V2.starts_with(held) {
            return bounded(held.len());
        }
        if !begins_as_request(line) {
            // The first byte of a record alone is not enough.
            if held.len() == 1 && begins_oddly(&[held[0], 3]) {
                return Look::More;
            }
            if line[0].is_ascii_uppercase() || is_binary(line[0]) {
                return Look::Free;
            }
            self.state = State::Line(Vec::new());
            return self.look(held);
        }
        let Some(end) = memchr::memchr(b'\n', line) else {
            return bounded(held.len());
        };
        match sniff::judge_line(&line[..end]) {
            DetectedProtocol::Http1 => {
                self.state = State::Requests(Box::default());
                self.look(held)
            }
            DetectedProtocol::Tls(_) | DetectedProtocol::Http2 | DetectedProtocol::Unknown => {
                other_line(&line[..end])
            }
        }
    }
}

fn names(hello: &sniff::ClientHello, told: usize) -> Look {
    let host = match hello.server_name.as_deref().map(Host::parse) {
        // An address has no place in SNI (RFC 6066, section 3): such a client has no name.
        None | Some(Ok(Host::Ip(_))) => None,
        Some(Ok(host @ Host::Name(_))) => Some(host),
        Some(Err(error)) => {
            let detail = format!("SNI: {error}");
            return Look::Refuse(Refusal::new(Reason::AuthorityInvalid, detail));
        }
    };
    let shown = ShownName {
        by: ShownBy::Tls,
        host,
        hidden: hello.encrypted,
    };
    Look::Names(shown, told)
}

/// Whether the line begins with a method and a space, as far as it has arrived. Servers that check methods
/// expect upper case; other lines are inspected as they pass.
fn begins_as_request(line: &[u8]) -> bool {
    let method = line.iter().take_while(|byte| sniff::is_token(**byte));
    let blank = line.get(method.count());
    line[0].is_ascii_uppercase() && blank.is_none_or(|byte| b" \t".contains(byte))
}

/// A TLS record that some servers ignore before the `ClientHello`.
fn begins_oddly(held: &[u8]) -> bool {
    matches!(held, [CHANGE_CIPHER_SPEC | ALERT | APPLICATION_DATA, 3, ..])
}

fn is_binary(byte: u8) -> bool {
    byte == 0x7f || byte < b' ' && !b"\t\r\n".contains(&byte)
}

fn bounded(held: usize) -> Look {
    if held <= LONGEST_LINE {
        return Look::More;
    }
    let detail = "the first line has no end";
    Look::Refuse(Refusal::new(Reason::TunnelUnreadable, detail))
}

/// After a PROXY header anything may follow, as if another client had sent it.
fn proxy_header() -> Look {
    let detail = "the client writes the header of a load balancer (PROXY)";
    Look::Refuse(Refusal::new(Reason::TunnelUnreadable, detail))
}

/// A first line that is not a valid HTTP/1 request line.
fn other_line(line: &[u8]) -> Look {
    if line.starts_with(PROXY_V1) {
        return proxy_header();
    }
    if line.starts_with(b"PRI * HTTP/2") {
        let detail =
            "the client speaks HTTP/2 in clear, whose names cannot be told without its tables";
        return Look::Refuse(Refusal::new(Reason::TunnelUnreadable, detail));
    }
    let resembles = line
        .windows(b"http/".len())
        .any(|word| word.eq_ignore_ascii_case(b"http/"));
    if resembles {
        let detail = "the first line resembles a request and is none";
        return Look::Refuse(Refusal::new(Reason::RequestMalformed, detail));
    }
    Look::Free
}

/// Passes a line on as it arrives, except its end: until then no server acts on it.
fn further(line: &mut Vec<u8>, held: &[u8]) -> Look {
    let empty = if line.is_empty() {
        held.iter()
            .take_while(|byte| b"\r\n".contains(byte))
            .count()
    } else {
        0
    };
    let end = memchr::memchr(b'\n', &held[empty..]).map(|end| empty + end);
    let part = &held[empty..end.unwrap_or(held.len())];
    if part.iter().copied().any(is_binary) || line.len() + part.len() > LONGEST_LINE {
        return Look::Free;
    }
    line.extend_from_slice(part);
    match end {
        Some(_) => other_line(line),
        None => Look::Pass(held.len()),
    }
}

enum Greeted {
    Look(Look),
    /// A record of early data of this length.
    Early(usize),
}

/// The next record after a `ClientHello`.
fn greeted(held: &[u8], early_data: bool, again: &mut Sniffer) -> Greeted {
    let [kind, _, _, high, low, rest @ ..] = held else {
        let may_matter = held.first().is_none_or(|kind| {
            [CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE].contains(kind)
                || early_data && *kind == APPLICATION_DATA
        });
        return Greeted::Look(if may_matter { Look::More } else { Look::Free });
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    Greeted::Look(match (*kind, rest) {
        (APPLICATION_DATA, _) if early_data => return Greeted::Early(RECORD_HEADER + length),
        (CHANGE_CIPHER_SPEC | HANDSHAKE, []) => Look::More,
        (CHANGE_CIPHER_SPEC, _) if length == 1 => Look::Pass(RECORD_HEADER + 1),
        // A warning does not end the connection.
        (ALERT, [] | [_]) if length == 2 => Look::More,
        (ALERT, _) if length == 2 => Look::Pass(RECORD_HEADER + 2),
        (HANDSHAKE, [CLIENT_HELLO, ..]) => match again.look(held) {
            Ok(None) => Look::More,
            Ok(Some(DetectedProtocol::Tls(hello))) => {
                let told = again.hello_length();
                *again = Sniffer::default();
                names(&hello, told)
            }
            // Encrypted data after the handshake may look like a `ClientHello`.
            Ok(Some(
                DetectedProtocol::Http1 | DetectedProtocol::Http2 | DetectedProtocol::Unknown,
            ))
            | Err(_) => Look::Free,
        },
        _ => Look::Free,
    })
}

#[cfg(test)]
mod tests;
