//! What went wrong on an HTTP connection, in words. The HTTP libraries tell their errors apart by their texts alone,
//! which are written for programmers.

use std::{error::Error, io};

use countersign_types::shown::escaped;

use crate::{files, tls_error};

/// The longest text of a library or a peer that is shown, in characters.
const MOST: usize = 160;

/// The texts of hyper, and what they mean for a clause about a connection. An empty meaning is that of its cause.
const HTTP: &[(&str, &str)] = &[
    ("invalid HTTP method parsed", "the method is not valid"),
    (
        "invalid HTTP version parsed (found HTTP2 preface)",
        "it speaks HTTP/2 where HTTP/1.1 is expected",
    ),
    (
        "invalid HTTP version parsed",
        "the first line is not one of HTTP/1.1",
    ),
    ("invalid URI", "the request target is not valid"),
    ("URI too long", "the request target is too long"),
    ("invalid HTTP header parsed", "a header is not valid"),
    (
        "invalid content-length parsed",
        "Content-Length is not valid",
    ),
    (
        "invalid transfer-encoding parsed",
        "Transfer-Encoding is not valid",
    ),
    (
        "unexpected transfer-encoding parsed",
        "there is a Transfer-Encoding where none is allowed",
    ),
    ("message head is too large", "the head is too large"),
    ("invalid HTTP status-code parsed", "the status is not valid"),
    (
        "connection closed before message completed",
        "the connection was closed before the message was complete",
    ),
    (
        "received unexpected message from connection",
        "something came that no request asked for",
    ),
    ("channel closed", "the connection is closed"),
    ("dispatch task is gone", "the connection is closed"),
    (
        "operation was canceled",
        "the connection was closed before the request was sent",
    ),
    (
        "read header from client timeout",
        "the head did not arrive in time",
    ),
    ("error reading a body from connection", ""),
    (
        "error writing a body to connection",
        "the body could not be written",
    ),
    ("body write aborted", "the body could not be written"),
    ("user body write aborted", "the body could not be written"),
    (
        "error shutting down connection",
        "the connection could not be closed in order",
    ),
    ("http2 error", ""),
    ("connection error", ""),
    (
        "error from user's Body stream",
        "the body that was to be sent broke off",
    ),
    ("no upgrade available", "it did not agree to a tunnel"),
    (
        "user sent CONNECT request with non-zero body",
        "CONNECT cannot have a body",
    ),
    ("broken pipe", "the connection was closed by the other side"),
    (
        "end of file before message length reached",
        "it ended before its Content-Length",
    ),
    (
        "unexpected EOF during chunk size line",
        "it ended amid a chunk",
    ),
    ("unexpected end of file", "it ended too early"),
];

/// How an error of HTTP/2 came about, by the beginning of the library's text.
const HTTP2: &[(&str, &str)] = &[
    (
        "stream error received: ",
        "the other side reset the stream with ",
    ),
    (
        "stream error detected: ",
        "the other side broke a rule of HTTP/2 on the stream: ",
    ),
    ("stream error sent by user: ", "the stream was reset with "),
    (
        "connection error received: ",
        "the other side ended the connection with ",
    ),
    (
        "connection error detected: ",
        "the other side broke a rule of HTTP/2: ",
    ),
    (
        "connection error sent by user: ",
        "the connection was ended with ",
    ),
    ("protocol error: ", "HTTP/2 was broken off with "),
    ("user error: ", "HTTP/2 does not allow what was sent: "),
];

/// The codes of RFC 9113, section 7, by the library's descriptions.
const CODES: &[(&str, &str)] = &[
    ("not a result of an error", "NO_ERROR"),
    ("unspecific protocol error detected", "PROTOCOL_ERROR"),
    ("unexpected internal error encountered", "INTERNAL_ERROR"),
    ("flow-control protocol violated", "FLOW_CONTROL_ERROR"),
    (
        "settings ACK not received in timely manner",
        "SETTINGS_TIMEOUT",
    ),
    ("received frame when stream half-closed", "STREAM_CLOSED"),
    ("frame with invalid size", "FRAME_SIZE_ERROR"),
    (
        "refused stream before processing any application logic",
        "REFUSED_STREAM",
    ),
    ("stream no longer needed", "CANCEL"),
    (
        "unable to maintain the header compression context",
        "COMPRESSION_ERROR",
    ),
    (
        "connection established in response to a CONNECT request was reset",
        "CONNECT_ERROR",
    ),
    (
        "detected excessive load generating behavior",
        "ENHANCE_YOUR_CALM",
    ),
    (
        "security properties do not meet minimum requirements",
        "INADEQUATE_SECURITY",
    ),
    ("endpoint requires HTTP/1.1", "HTTP_1_1_REQUIRED"),
];

/// An error of an HTTP connection with its causes, as a clause.
pub fn sentence(error: &(dyn Error + 'static)) -> String {
    let mut told: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let clause = clause(error);
        if !clause.is_empty() && !told.iter().any(|told| told.contains(&clause)) {
            told.push(clause);
        }
        next = error.source();
    }
    if told.is_empty() {
        return "the connection broke".to_owned();
    }
    told.join(": ")
}

fn clause(error: &(dyn Error + 'static)) -> String {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return tls_error::sentence(error);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // The library's own errors come in this form too.
        return clause_of(&files::reason(error));
    }
    clause_of(&error.to_string())
}

fn clause_of(text: &str) -> String {
    if let Some((_, meaning)) = HTTP.iter().find(|(known, _)| *known == text) {
        return (*meaning).to_owned();
    }
    for (begin, meaning) in HTTP2 {
        if let Some(rest) = text.strip_prefix(begin) {
            return format!("{meaning}{}", code(rest));
        }
    }
    bounded(text)
}

/// The code, and what the peer says about it.
fn code(text: &str) -> String {
    let known = CODES
        .iter()
        .find(|(described, _)| text.starts_with(described));
    let Some((_, code)) = known else {
        return bounded(text);
    };
    match text.split_once(" (b\"") {
        None => (*code).to_owned(),
        Some((_, said)) => {
            let said = said.trim_end_matches("\")");
            format!("{code}, saying \"{}\"", bounded(said))
        }
    }
}

fn bounded(text: &str) -> String {
    let shown: String = text.chars().take(MOST).collect();
    let cut = if shown.len() < text.len() { "..." } else { "" };
    format!("{}{cut}", escaped(&shown))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// As hyper's: a text, and perhaps a cause.
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Of(&'static str, #[source] Option<Box<dyn Error + Send + Sync>>);

    fn told(text: &'static str, cause: Option<&'static str>) -> String {
        let cause = cause.map(|text| Box::new(Of(text, None)).into());
        sentence(&Of(text, cause))
    }

    #[rstest]
    #[case(
        "connection closed before message completed",
        None,
        "the connection was closed before the message was complete"
    )]
    #[case("invalid HTTP header parsed", None, "a header is not valid")]
    #[case(
        "http2 error",
        Some("stream error received: unspecific protocol error detected"),
        "the other side reset the stream with PROTOCOL_ERROR"
    )]
    #[case(
        "http2 error",
        Some(
            "connection error received: detected excessive load generating behavior (b\"too_many\\u{1b}_pings\")"
        ),
        "the other side ended the connection with ENHANCE_YOUR_CALM, saying \"too_many\\u{1b}_pings\""
    )]
    #[case("connection error", None, "the connection broke")]
    #[case("something new", Some("and why"), "something new: and why")]
    fn the_libraries_words_become_ours(
        #[case] text: &'static str,
        #[case] cause: Option<&'static str>,
        #[case] expected: &str,
    ) {
        assert_eq!(told(text, cause), expected);
    }

    #[test]
    fn the_systems_errors_are_told_without_their_numbers() {
        let system = io::Error::from_raw_os_error(104);
        let error = Of("connection error", Some(system.into()));
        assert_eq!(sentence(&error), "connection reset");
        let error = Of(
            "connection error",
            Some(io::Error::other("it is ours").into()),
        );
        assert_eq!(sentence(&error), "it is ours");
        let tls = rustls::Error::DecryptError;
        let error = Of("connection error", Some(tls.into()));
        assert!(!sentence(&error).contains("DecryptError"));
    }

    #[test]
    fn what_a_peer_says_is_bounded() {
        let long: &'static str = Box::leak("x".repeat(10_000).into_boxed_str());
        assert!(told(long, None).len() < 200);
    }
}
