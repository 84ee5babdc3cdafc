//! A corporate proxy's answer to CONNECT, and what is told of a refusal: its status and some of its words.

use std::{fmt::Write as _, io, time::Duration};

use countersign_config::shown::without_numbers;
use countersign_core::redact;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use super::{Basic, ProxyFault};

/// The most bytes of the answer's head.
const MOST_HEAD: usize = 16 * 1024;

/// The most bytes that are read of a refusal's body, and how long they are waited for.
const MOST_BODY: usize = 8 * 1024;
const BODY_WAIT: Duration = Duration::from_millis(500);

/// The most characters that are told of a refusal.
const MOST_TOLD: usize = 200;

/// The most authentication schemes that are named.
const MOST_SCHEMES: usize = 5;

/// Reads the answer: `Ok` is an open tunnel.
pub(super) async fn read<IO>(stream: &mut IO, basic: Option<&Basic>) -> Result<(), ProxyFault>
where
    IO: AsyncRead + Unpin,
{
    let refused = |what: &str| ProxyFault::Refused(what.to_owned());
    let mut answer = Vec::with_capacity(1024);
    let end = loop {
        let read = stream.read_buf(&mut answer).await;
        if read.map_err(|error| broken(&error))? == 0 {
            return Err(refused("it closed the connection"));
        }
        if !begins_as_http(&answer) {
            return Err(refused(not_http(&answer)));
        }
        if let Some(end) = find_end(&answer) {
            break end;
        }
        if answer.len() > MOST_HEAD {
            return Err(refused("its answer has no end"));
        }
    };
    let Some(status) = status(&answer) else {
        return Err(refused(not_http(&answer)));
    };
    let mut body = answer.split_off(end);
    let head = String::from_utf8_lossy(&answer);
    if (200..=299).contains(&status) {
        if !body.is_empty() {
            // In TLS the client speaks first, so these bytes are not from the upstream.
            return Err(refused("it sent something before the tunnel stood"));
        }
        return Ok(());
    }
    // What does not come in time is not told.
    drop(timeout(BODY_WAIT, read_body(stream, &mut body, length(&head))).await);
    let told = told(&head, &String::from_utf8_lossy(&body), basic);
    Err(match status {
        407 => ProxyFault::Unauthenticated {
            answer: told,
            remedy: remedy(&head, basic),
        },
        500..=599 => ProxyFault::Failed(told),
        _ => ProxyFault::Refused(told),
    })
}

/// The connection broke before there was an answer.
pub(super) fn broken(error: &io::Error) -> ProxyFault {
    ProxyFault::Refused(format!("it broke off: {}", error.kind()))
}

async fn read_body<IO>(stream: &mut IO, body: &mut Vec<u8>, length: Option<usize>)
where
    IO: AsyncRead + Unpin,
{
    let most = length.unwrap_or(MOST_BODY).min(MOST_BODY);
    while body.len() < most {
        match stream.read_buf(body).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// What to do about a 407.
fn remedy(head: &str, basic: Option<&Basic>) -> String {
    let schemes = schemes(head);
    let has_basic = schemes
        .iter()
        .any(|scheme| scheme.eq_ignore_ascii_case("basic"));
    if !schemes.is_empty() && !has_basic {
        return format!(
            "it offers {} and the gateway has only Basic: ask its operators for Basic, or for an exception for the gateway's address",
            schemes.join(", ")
        );
    }
    match basic {
        None => "it wants a user name and password: set upstream.proxyAuthentication".to_owned(),
        Some(basic) => format!(
            "it does not accept the user name in upstream.proxyAuthentication with the password in {}",
            basic.file().display()
        ),
    }
}

/// The status line and the beginning of the body, in one line, without anything that looks like a secret.
fn told(head: &str, body: &str, basic: Option<&Basic>) -> String {
    let line = head.lines().next().unwrap_or_default();
    let status = line.split_once(' ').map_or("", |(_, rest)| rest.trim());
    let mut told = format!("it answered {}", shown(status, basic));
    let words = shown(&without_markup(body), basic);
    if !words.is_empty() {
        // Writing to a text cannot fail.
        let _ = write!(told, ": \"{words}\"");
    }
    told
}

fn shown(text: &str, basic: Option<&Basic>) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    let line = words.join(" ");
    let masked = basic.map_or_else(|| line.as_str().into(), |basic| basic.redact(&line));
    let masked = redact::redact(&masked);
    let masked = without_numbers(&masked);
    let mut shown: String = masked.chars().take(MOST_TOLD).collect();
    if shown.len() < masked.len() {
        shown.push_str("...");
    }
    redact::printable(&shown).into_owned()
}

/// The words of a page, without its tags, styles and scripts.
fn without_markup(body: &str) -> String {
    let mut words = String::with_capacity(body.len());
    let mut rest = body;
    while let Some((before, tag)) = rest.split_once('<') {
        words.push_str(before);
        words.push(' ');
        let end = ["style", "script", "!--"]
            .iter()
            .find(|name| starts_with(tag, name))
            .map_or(">", |name| match *name {
                "style" => "</style>",
                "script" => "</script>",
                _ => "-->",
            });
        rest = tag.find(end).map_or("", |at| &tag[at + end.len()..]);
    }
    words.push_str(rest);
    words
}

fn starts_with(text: &str, name: &str) -> bool {
    text.get(..name.len())
        .is_some_and(|begun| begun.eq_ignore_ascii_case(name))
}

/// The authentication schemes that a head offers.
fn schemes(head: &str) -> Vec<String> {
    fields(head, "proxy-authenticate")
        .filter_map(|challenge| challenge.split_whitespace().next())
        .take(MOST_SCHEMES)
        .map(|scheme| shown(scheme.trim_end_matches(','), None))
        .collect()
}

fn length(head: &str) -> Option<usize> {
    fields(head, "content-length").next()?.parse().ok()
}

fn fields<'h>(head: &'h str, name: &'static str) -> impl Iterator<Item = &'h str> {
    head.lines().skip(1).filter_map(move |line| {
        let (written, value) = line.split_once(':')?;
        written.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The first byte behind the head.
fn find_end(answer: &[u8]) -> Option<usize> {
    answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

fn begins_as_http(answer: &[u8]) -> bool {
    const BEGIN: &[u8] = b"HTTP/1.";
    let length = answer.len().min(BEGIN.len());
    answer[..length] == BEGIN[..length]
}

fn not_http(answer: &[u8]) -> &'static str {
    match answer {
        [20..=23, 3, ..] => {
            "its answer is TLS: write `https://` in upstream.proxy, or name its port without TLS"
        }
        _ => "its answer is not HTTP",
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let rest = head
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| head.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, rest) = rest.split_at_checked(3)?;
    if !matches!(rest.first(), Some(b' ' | b'\r')) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
