//! The hosts that HTTP/1 requests name, in a connection that the gateway does not answer.

use countersign_authorize::{ShownBy, ShownName};
use countersign_config::host::Host;
use countersign_core::{
    destination::Authority,
    reason::Reason,
    wire::framing::{Framing, Part},
};

use super::look::Look;
use crate::refusal::Refusal;

/// The port that `http` implies.
const HTTP: u16 = 80;

/// The longest line, in bytes; the head as a whole is bounded by who reads it.
const LONGEST_LINE: usize = 64 * 1024;

/// The parser's position in a client's requests.
#[derive(Debug)]
pub(super) struct Requests {
    framing: Framing,
    /// How many of the bytes that are held back were parsed.
    followed: usize,
    switches: Switch,
}

/// Whether a request asks for another protocol on its connection.
#[derive(Debug, PartialEq, Eq)]
enum Switch {
    No,
    /// The last one does.
    Asked,
    /// It does, and has ended: what follows may be that protocol.
    Open,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            framing: Framing::new(LONGEST_LINE),
            followed: 0,
            switches: Switch::No,
        }
    }
}

impl Requests {
    /// Whether what follows may be another protocol.
    pub(super) fn has_switched(&self) -> bool {
        self.switches == Switch::Open
    }

    /// Inspects the bytes that are held back.
    pub(super) fn look(&mut self, held: &[u8], head_bytes: usize) -> Result<Look, Refusal> {
        let (count, part) = self
            .framing
            .follow_part(&held[self.followed..])
            .map_err(|violation| malformed(violation.0))?;
        self.followed += count;
        if self.followed > head_bytes && part != Part::Body {
            let detail = format!("a head is larger than {head_bytes} bytes");
            return Err(Refusal::new(Reason::HeadTooLarge, detail));
        }
        let look = match part {
            Part::Head => return Ok(Look::More),
            Part::Body => Look::Pass(self.followed),
            Part::WholeHead => {
                let head = Head::read(&held[..self.followed])?;
                if head.switches {
                    self.switches = Switch::Asked;
                }
                Look::Names(head.named, self.followed)
            }
        };
        self.followed = 0;
        if self.switches == Switch::Asked && self.framing.between_requests() {
            self.switches = Switch::Open;
        }
        Ok(look)
    }
}

struct Head {
    named: ShownName,
    switches: bool,
}

impl Head {
    /// Reads a head whose line ends were already checked.
    fn read(head: &[u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(head).map_err(|_| malformed("a head is not UTF-8"))?;
        let mut lines = text.split("\r\n").skip_while(|line| line.is_empty());
        let mut line = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some("HTTP/1.0" | "HTTP/1.1"), None) =
            (line.next(), line.next(), line.next(), line.next())
        else {
            return Err(malformed("a line is no request line"));
        };
        let mut named = target_authority(method, target)?;
        let mut hosts = 0;
        let mut switches = method == "CONNECT";
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("upgrade") {
                switches = true;
            }
            if !name.eq_ignore_ascii_case("host") {
                continue;
            }
            hosts += 1;
            let host = host(value.trim_matches([' ', '\t']))?;
            let agree = named
                .as_ref()
                .is_none_or(|named| Some(named) == host.as_ref());
            if hosts > 1 || !agree {
                return Err(malformed("a request names more than one host"));
            }
            named = host;
        }
        let named = ShownName {
            by: ShownBy::Http,
            host: named,
            hidden: false,
        };
        Ok(Self { named, switches })
    }
}

/// The host that a request's target names, if it does (RFC 9112, section 3.2).
fn target_authority(method: &str, target: &str) -> Result<Option<Host>, Refusal> {
    if method == "CONNECT" {
        return host(target);
    }
    if target.starts_with('/') || target == "*" {
        return Ok(None);
    }
    let (_, rest) = target
        .split_once("://")
        .ok_or_else(|| malformed("a request's target is neither a path nor a URI"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    host(&rest[..end])
}

/// An empty `Host` names none (RFC 9110, section 7.2).
fn host(written: &str) -> Result<Option<Host>, Refusal> {
    if written.is_empty() {
        return Ok(None);
    }
    match Authority::with_default_port(written, HTTP) {
        Ok(authority) => Ok(Some(authority.host().clone())),
        Err(error) => Err(Refusal::new(Reason::AuthorityInvalid, error.to_string())),
    }
}

fn malformed(detail: &'static str) -> Refusal {
    Refusal::new(Reason::RequestMalformed, detail)
}
