//! Where in a line of text a record of ours is, if it has one.
//!
//! Tools that collect logs put something before each line (`kubectl logs --prefix --timestamps`, the container
//! runtime's own files, stern, Compose, syslog), or wrap it in JSON (Docker), or write it anew with its keys in
//! another order.

use std::{ops::Range, sync::LazyLock};

use jiff::Timestamp;
use memchr::memmem::Finder;
use serde::Deserialize;

/// How every line of ours begins.
const OURS: &[u8] = b"{\"schema\":\"countersign.";

/// The longest prefix of a collector.
const PREFIX: usize = 512;

static BEGIN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(OURS));
static NAMED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"countersign."));
static TIME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"time\":\""));

/// What is in a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Located {
    /// A record at this place.
    At(Range<usize>),
    /// The record was a text in JSON; this is what it said.
    Wrapped(String),
    /// No record of ours.
    Foreign,
}

/// What tells a line of JSON whose keys are in another order.
#[derive(Deserialize)]
struct Rewritten {
    schema: Option<String>,
    /// Docker's.
    log: Option<String>,
}

#[derive(Deserialize)]
struct Named<'a> {
    schema: &'a str,
}

/// Finds the record in a line.
pub(super) fn locate(line: &[u8]) -> Located {
    if line.starts_with(OURS) {
        return Located::At(0..line.len());
    }
    if NAMED.find(line).is_none() {
        return Located::Foreign;
    }
    if let Some(at) = BEGIN.find(line) {
        return if is_prefix(&line[..at]) {
            Located::At(at..line.len())
        } else {
            Located::Foreign
        };
    }
    let Some(at) = memchr::memchr(b'{', line).filter(|at| is_prefix(&line[..*at])) else {
        return Located::Foreign;
    };
    match serde_json::from_slice::<Rewritten>(&line[at..]) {
        Ok(Rewritten {
            schema: Some(schema),
            ..
        }) if schema.starts_with("countersign.") => Located::At(at..line.len()),
        Ok(Rewritten { log: Some(log), .. }) if log.as_bytes().starts_with(OURS) => {
            Located::Wrapped(log)
        }
        Ok(_) | Err(_) => Located::Foreign,
    }
}

/// What stands before a record must not be JSON or a quoted text: a record inside another program's line is
/// what that program says, not what a gateway did.
fn is_prefix(prefix: &[u8]) -> bool {
    prefix.len() <= PREFIX
        && !prefix
            .iter()
            .any(|byte| matches!(byte, b'{' | b'"' | b'\''))
}

/// The pod that `kubectl logs --prefix` names: `[pod/NAME/CONTAINER] `.
pub(super) fn pod(prefix: &[u8]) -> Option<&str> {
    let rest = prefix.strip_prefix(b"[pod/")?;
    let end = memchr::memchr2(b'/', b']', rest)?;
    std::str::from_utf8(&rest[..end]).ok()
}

/// The schema of a record.
pub(super) fn schema(json: &[u8]) -> Option<&str> {
    if let Some(rest) = json.strip_prefix(b"{\"schema\":\"") {
        let end = memchr::memchr(b'"', rest)?;
        return std::str::from_utf8(&rest[..end]).ok();
    }
    let named: Named<'_> = serde_json::from_slice(json).ok()?;
    Some(named.schema)
}

/// The time of a record, without parsing the rest.
pub(super) fn time(json: &[u8]) -> Option<Timestamp> {
    let rest = &json[TIME.find(json)? + b"\"time\":\"".len()..];
    let end = memchr::memchr(b'"', &rest[..rest.len().min(64)])?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const RECORD: &str =
        r#"{"schema":"countersign.decision/v1","time":"2026-11-23T05:10:03.412Z"}"#;

    #[rstest]
    #[case::plain("")]
    #[case::kubectl("[pod/gateway-7d9-x8k2p/countersign] ")]
    #[case::kubectl_with_times("[pod/gateway-0/countersign] 2026-11-23T05:10:03.412345678Z ")]
    #[case::runtime("2026-11-23T05:10:03.412345678+01:00 stdout F ")]
    #[case::compose("countersign-1  | ")]
    #[case::stern("gateway-0 countersign ")]
    #[case::syslog("Nov 23 05:10:03 node-1 countersign[812]: ")]
    fn a_prefix_is_no_part_of_it(#[case] prefix: &str) {
        let line = format!("{prefix}{RECORD}");
        assert_eq!(
            locate(line.as_bytes()),
            Located::At(prefix.len()..line.len())
        );
    }

    #[test]
    fn a_record_in_docker_s_json_is_unwrapped() {
        let line =
            serde_json::json!({"log": format!("{RECORD}\n"), "stream": "stdout"}).to_string();
        assert_eq!(
            locate(line.as_bytes()),
            Located::Wrapped(format!("{RECORD}\n"))
        );
    }

    #[test]
    fn keys_in_another_order_are_read() {
        let line = r#"{"id":"1","schema":"countersign.decision/v1","time":"2026-11-23T05:10:03Z"}"#;
        assert_eq!(locate(line.as_bytes()), Located::At(0..line.len()));
        assert_eq!(schema(line.as_bytes()), Some("countersign.decision/v1"));
        assert!(time(line.as_bytes()).is_some());
    }

    #[rstest]
    #[case::process_log(
        r#"{"timestamp":"2026-11-23T05:10:03Z","level":"INFO","target":"countersign.gateway"}"#
    )]
    #[case::text("starting countersign.decision/v1")]
    #[case::empty("")]
    #[case::another_schema(r#"{"schema":"other.decision/v1"}"#)]
    #[case::name_alike(r#"{"schema":"notcountersign.decision/v1"}"#)]
    fn others_lines_are_not_ours(#[case] line: &str) {
        assert_eq!(locate(line.as_bytes()), Located::Foreign);
    }

    /// Somebody who can write to a log that is read together with ours must not write our records.
    #[rstest]
    #[case::in_a_text("message=\"")]
    #[case::in_json("{\"message\":")]
    fn a_record_that_another_program_quotes_is_not_ours(#[case] before: &str) {
        let line = format!("{before}{RECORD}");
        assert_eq!(locate(line.as_bytes()), Located::Foreign);
    }

    #[test]
    fn the_pod_is_in_kubectl_s_prefix() {
        assert_eq!(pod(b"[pod/gateway-0/countersign] "), Some("gateway-0"));
        assert_eq!(pod(b"gateway-0 countersign "), None);
    }
}
