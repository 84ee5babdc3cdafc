//! What is a failure, when that is certain, and what is not; plain, encoded, in pieces and bombs.

use std::io::Write;

use countersign_config::{
    model::{AuthFailureBlame, RateLimitScope, ResourceName, Slots, Strip},
    path::PathPatterns,
};
use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use rstest::rstest;
use serde_json::json;

use super::{encoding::Decoded, *};

const LIMIT: usize = 64 * 1024;

fn rule(json: serde_json::Value, then: AuthFailureAction) -> AuthFailure {
    let serde_json::Value::Object(members) = json else {
        panic!("members")
    };
    AuthFailure {
        status: Vec::new(),
        json: members
            .into_iter()
            .map(|(name, value)| match value {
                serde_json::Value::Array(values) => (name, values),
                single => (name, vec![single]),
            })
            .collect(),
        text: Vec::new(),
        then,
        blame: AuthFailureBlame::Operator,
    }
}

/// The rules of the catalog's Slack, cut short.
fn slack() -> Target {
    let report = AuthFailureAction::Report;
    let text = AuthFailure {
        text: vec!["no_service".into(), "invalid_token".into()],
        json: Vec::new(),
        ..rule(json!({}), AuthFailureAction::RereadSource)
    };
    let status = AuthFailure {
        status: vec![401],
        ..rule(json!({}), AuthFailureAction::RefreshAndReplay)
    };
    let expired = json!({ "ok": false, "error": ["token_expired", "invalid_auth"] });
    let scope = json!({ "ok": false, "error": ["missing_scope"] });
    Target {
        name: ResourceName::cluster_wide("slack"),
        hosts: Vec::new(),
        ports: vec![443],
        intercept: true,
        slots: Slots {
            default: "bot".into(),
            names: vec!["bot".into()],
        },
        routes: Vec::new(),
        auth_failure: vec![
            rule(expired, AuthFailureAction::RefreshAndReplay),
            rule(scope, report),
            text,
            status,
        ],
        refusal: None,
        transport_faults: countersign_config::model::TransportFaults::Status,
        probe: None,
        rate_limit: RateLimitScope::Path,
        encoded_slash: countersign_config::path::EncodedSlash::Refuse,
    }
}

fn route(inspect_body: bool) -> Route {
    Route {
        host: None,
        paths: PathPatterns::parse::<&str>(&[], false).unwrap(),
        deny: None,
        attach: None,
        strip: Strip::default(),
        inspect_body,
    }
}

fn answer(status: u16, kind: &str, encoding: Option<&str>) -> Response<()> {
    let mut response = Response::builder().status(status);
    if !kind.is_empty() {
        response = response.header(header::CONTENT_TYPE, kind);
    }
    if let Some(encoding) = encoding {
        response = response.header(header::CONTENT_ENCODING, encoding);
    }
    response.body(()).unwrap()
}

const JSON: &str = "application/json; charset=utf-8";
const TEXT: &str = "text/html";

fn verdict(response: &Response<()>, body: &[u8], ended: bool) -> &'static str {
    let target = slack();
    match ResponseMeta::of(&route(true), response, LIMIT).evaluate(&target, body, ended) {
        Verdict::Fine => "fine",
        Verdict::Failed(rule) => match rule.then {
            AuthFailureAction::RefreshAndReplay => "refresh",
            AuthFailureAction::RereadSource => "reread",
            AuthFailureAction::Report => "report",
        },
        Verdict::Open { recoverable: true } => "open",
        Verdict::Open { recoverable: false } => "open, but not to be waited for",
    }
}

#[rstest]
#[case::begun("", false, "open")]
#[case::blank(" \n", false, "open")]
#[case::good(r#"{"ok":true"#, false, "fine")]
#[case::good_is_not_a_number(r#"{"ok":tru"#, false, "open")]
#[case::bad(r#"{"ok":false"#, false, "open")]
#[case::half_a_code(r#"{"ok":false,"error":"token_exp"#, false, "open")]
#[case::expired(r#"{"ok":false,"error":"token_expired""#, false, "refresh")]
#[case::other_order(
    r#"{"error":"invalid_auth","a":[{"ok":true}],"ok":false"#,
    false,
    "refresh"
)]
#[case::escaped(r#"{"\u006fk":false,"error":"token\u005fexpired"}"#, true, "refresh")]
#[case::spaced(
    " { \"ok\" : false ,\r\n\t\"error\" : \"token_expired\" } ",
    true,
    "refresh"
)]
#[case::scope(r#"{"ok":false,"error":"missing_scope","needed":"a"}"#, true, "report")]
#[case::other_error(r#"{"ok":false,"error":"channel_not_found"}"#, false, "fine")]
#[case::transient(r#"{"ok":false,"error":"internal_error"}"#, true, "fine")]
#[case::nested_is_not_top(
    r#"{"ok":true,"message":{"ok":false,"error":"token_expired"}}"#,
    true,
    "fine"
)]
#[case::in_a_string(
    r#"{"text":"\"ok\":false,\"error\":\"token_expired\"","ok":true}"#,
    true,
    "fine"
)]
#[case::array(r#"[{"ok":false,"error":"token_expired"}]"#, true, "fine")]
#[case::no_json("<html>", false, "fine")]
#[case::no_code(r#"{"ok":false}"#, true, "fine")]
#[case::cut_off(r#"{"ok":false,"error":"token_exp"#, true, "fine")]
#[case::nothing("", true, "fine")]
#[case::truthy(r#"{"ok":"false","error":"token_expired"}"#, true, "fine")]
fn json_bodies(#[case] body: &str, #[case] ended: bool, #[case] expected: &str) {
    assert_eq!(
        verdict(&answer(200, JSON, None), body.as_bytes(), ended),
        expected
    );
}

/// However it is cut, it is found, and never taken for something else before.
#[test]
fn a_failure_in_any_two_pieces() {
    let body = br#"{"a":{"b":["}",1]},"ok":false,"error":"token_expired","n":-1.5e3}"#;
    let needed = body.len() - br#","n":-1.5e3}"#.len();
    for at in 0..=body.len() {
        let found = verdict(&answer(200, JSON, None), &body[..at], false);
        let expected = if at >= needed { "refresh" } else { "open" };
        assert_eq!(found, expected, "after {at} bytes");
    }
}

#[rstest]
#[case::status_alone(401, "", "", false, "refresh")]
#[case::status_with_json(401, JSON, "", false, "open")]
#[case::an_earlier_rule_first(401, JSON, r#"{"ok":false,"error":"missing_scope"}"#, true, "report")]
#[case::status_after_all(401, JSON, r#"{"ok":true}"#, true, "refresh")]
#[case::file(
    200,
    "application/octet-stream",
    r#"{"ok":false,"error":"token_expired"}"#,
    true,
    "fine"
)]
#[case::events(200, "text/event-stream", "no_service", true, "fine")]
#[case::lines(
    200,
    "application/x-ndjson",
    r#"{"ok":false,"error":"token_expired"}"#,
    true,
    "fine"
)]
#[case::plus_json(
    200,
    "application/problem+JSON",
    r#"{"ok":false,"error":"token_expired"}"#,
    true,
    "refresh"
)]
#[case::webhook(404, TEXT, "no_service", true, "reread")]
#[case::webhook_may_go_on(404, TEXT, "no_service", false, "open")]
#[case::webhook_line_end(404, TEXT, "no_service\n", true, "reread")]
#[case::webhook_other(404, TEXT, "channel_not_found", false, "fine")]
#[case::webhook_good(200, TEXT, "ok", true, "fine")]
#[case::webhook_longer(404, TEXT, "no_service_at_all", true, "fine")]
fn heads(
    #[case] status: u16,
    #[case] kind: &str,
    #[case] body: &str,
    #[case] ended: bool,
    #[case] expected: &str,
) {
    assert_eq!(
        verdict(&answer(status, kind, None), body.as_bytes(), ended),
        expected
    );
}

/// A route of files is judged by its status alone, whatever the body says it is.
#[test]
fn a_file_is_never_looked_into() {
    let target = slack();
    let body = br#"{"ok":false,"error":"token_expired"}"#;
    let meta = |status| ResponseMeta::of(&route(false), &answer(status, JSON, None), LIMIT);
    assert!(matches!(
        meta(200).evaluate(&target, body, true),
        Verdict::Fine
    ));
    assert!(matches!(
        meta(401).evaluate(&target, b"", false),
        Verdict::Failed(_)
    ));
    assert!(!meta(200).is_readable());
}

fn encode(encoding: &str, body: &[u8]) -> Vec<u8> {
    fn flush<W: Write>(mut encoder: W, body: &[u8]) -> W {
        encoder.write_all(body).unwrap();
        encoder
    }
    match encoding {
        "gzip" => flush(GzEncoder::new(Vec::new(), Compression::best()), body)
            .finish()
            .unwrap(),
        "deflate" => flush(ZlibEncoder::new(Vec::new(), Compression::best()), body)
            .finish()
            .unwrap(),
        "raw deflate" => flush(DeflateEncoder::new(Vec::new(), Compression::best()), body)
            .finish()
            .unwrap(),
        "br" => {
            let mut encoded = Vec::new();
            let params = brotli::enc::BrotliEncoderParams::default();
            brotli::BrotliCompress(&mut &*body, &mut encoded, &params).unwrap();
            encoded
        }
        "zstd" => {
            ruzstd::encoding::compress_to_vec(body, ruzstd::encoding::CompressionLevel::Fastest)
        }
        other => panic!("{other}"),
    }
}

#[rstest]
fn encoded_bodies(#[values("gzip", "deflate", "raw deflate", "br", "zstd")] encoding: &str) {
    let named = encoding.strip_prefix("raw ").unwrap_or(encoding);
    let response = answer(200, JSON, Some(named));
    for (body, expected) in [
        (r#"{"ok":false,"error":"token_expired"}"#, "refresh"),
        (
            r#"{"ok":true,"channel":"C0","ts":"1503435956.000247"}"#,
            "fine",
        ),
        (
            r#"{"ok":false,"error":"missing_scope","needed":"chat:write"}"#,
            "report",
        ),
    ] {
        let encoded = encode(encoding, body.as_bytes());
        assert_eq!(verdict(&response, &encoded, true), expected, "{encoding}");
        // What is not there yet decides nothing but what it must.
        for at in 0..encoded.len() {
            let early = verdict(&response, &encoded[..at], false);
            assert!(
                early == "open" || early == expected,
                "{encoding} at {at}: {early}"
            );
        }
    }
}

#[rstest]
#[case("compress")]
#[case("gzip, br")]
#[case("")]
fn an_encoding_that_we_do_not_know_is_not_looked_into(#[case] encoding: &str) {
    let response = answer(200, JSON, Some(encoding));
    assert_eq!(
        verdict(&response, br#"{"ok":false,"error":"token_expired"}"#, true),
        "fine"
    );
}

/// Gigabytes in a few bytes are decoded to the limit and no further.
#[rstest]
fn t51_a_decompression_bomb_is_capped(
    #[values("gzip", "deflate", "br", "zstd")] encoding: &str,
    #[values("all zeros", "after an object")] how: &str,
) {
    let mut body = Vec::new();
    if how == "after an object" {
        body.extend_from_slice(br#"{"ok":false,"pad":""#);
    }
    body.resize(64 * 1024 * 1024, b'0');
    let encoded = encode(encoding, &body);
    assert!(encoded.len() < 1024 * 1024, "{encoding}: {}", encoded.len());
    let response = answer(200, JSON, Some(encoding));
    let encoding = Encoding::of(response.headers()).unwrap();
    let Decoded { bytes, too_long } = encoding.decode(&encoded, LIMIT);
    // Zstandard gives nothing out of a window that is not full.
    assert!(too_long || (encoding == Encoding::Zstd && bytes.len() <= LIMIT));
    assert!(bytes.len() <= LIMIT);
    assert_eq!(verdict(&response, &encoded, true), "fine");
}

/// What is certain within the limit counts; what would come after it does not.
#[rstest]
#[case::at_the_limit(0, "refresh")]
#[case::one_beyond(1, "fine")]
fn the_limit_is_exact(#[case] beyond: usize, #[case] expected: &str) {
    let tail = br#"","ok":false,"error":"token_expired""#;
    let mut body = br#"{"pad":""#.to_vec();
    body.resize(LIMIT + beyond - tail.len(), b'x');
    body.extend_from_slice(tail);
    assert_eq!(body.len(), LIMIT + beyond);
    assert_eq!(verdict(&answer(200, JSON, None), &body, false), expected);
    let long = [&body[..], &[b' '; 1000]].concat();
    assert_eq!(verdict(&answer(200, JSON, None), &long, true), expected);
}
