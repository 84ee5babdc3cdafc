//! Requests that policy reads in one way and a lenient server in another: headers and fields that
//! rewrite method or path, forms by another type, fields in several spellings.

use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use rstest::rstest;
use serde_json::json;

use crate::harness::{EXAMPLE, HOST, TestBed, get};

#[rstest]
#[case("X-Original-URL", "path_override")]
#[case("X-Rewrite-URL", "path_override")]
#[case("X_Original_URL", "path_override")]
#[case("X.Original.URL", "path_override")]
#[case("X-Override-URL", "path_override")]
#[case("X-Forwarded-Prefix", "path_override")]
#[case("X-Forwarded-Uri", "path_override")]
#[case("X-Envoy-Original-Path", "path_override")]
#[case("X-HTTP-Verb", "method_override")]
#[case("X-HTTP-Method", "method_override")]
#[case("X-Vendor-Method-Override", "method_override")]
#[case("Http-Method", "method_override")]
#[tokio::test]
async fn t67_headers_that_rewrite_a_request(
    #[case] name: &str,
    #[case] reason: &str,
    #[values(false, true)] nominated: bool,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let mut request = get("/some");
    let header = HeaderName::from_bytes(name.as_bytes())?;
    let headers = request.headers_mut();
    headers.append(header.clone(), HeaderValue::from_static("/admin"));
    headers.append(header, HeaderValue::from_static("DELETE"));
    let client = if nominated {
        headers.insert("connection", HeaderValue::from_str(name)?);
        bed.client().over(countersign_tests::fake::Protocol::Http1)
    } else {
        bed.client()
    };
    assert_eq!(client.send(request).await?.status, StatusCode::BAD_REQUEST);
    bed.refused(reason).await?;
    Ok(())
}

#[tokio::test]
async fn t67_honest_headers_pass() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let mut request = get("/some");
    for name in [
        "x-requested-with",
        "x-request-id",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-original-filename",
        "x-payment-method",
        "x-webhook-url",
    ] {
        let value = HeaderValue::from_static("value");
        request.headers_mut().insert(name, value);
    }
    assert_eq!(bed.client().send(request).await?.status, StatusCode::OK);
    let received = &bed.api.received().at("/some")[0];
    assert_eq!(received.header("x-webhook-url").as_deref(), Some("value"));
    Ok(())
}

#[rstest]
#[case("/some?_method=DELETE")]
#[case("/some?a=1&%5FMETHOD[]=DELETE")]
#[case("/some?X-HTTP-Method-Override=DELETE")]
#[tokio::test]
async fn t47_a_query_that_overrides_the_method(#[case] path: &str) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let answer = bed.client().send(get(path)).await?;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    bed.refused("method_override").await?;
    let answer = bed.client().send(get("/some?payment_method=card")).await?;
    assert_eq!(answer.status, StatusCode::OK);
    Ok(())
}

const PATH: &str = "/api/chat.postMessage";

fn post(content_type: &str, body: &str) -> anyhow::Result<Request<Full<bytes::Bytes>>> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("https://slack.com{PATH}"))
        .header("content-type", content_type);
    Ok(request.body(body.to_owned().into())?)
}

/// Whatever it calls itself, the caller's token does not get through.
#[rstest]
#[case::form("application/x-www-form-urlencoded")]
#[case::json_of_a_kind("application/x+json")]
#[case::json_that_is_none("application/json")]
#[case::text("text/plain")]
#[tokio::test]
async fn t71_a_form_is_one_by_any_type(
    #[case] content_type: &str,
    #[values(
        "token=xoxb-mine",
        "Token=xoxb-mine",
        "token[]=xoxb-mine",
        "%74oken=xoxb-mine",
        "token%00=xoxb-mine",
        "+token=xoxb-mine",
        "a=1;token=xoxb-mine"
    )]
    field: &str,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let body = format!("channel=C1&{field}&text=hello");
    let answer = bed.client().send(post(content_type, &body)?).await?;
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "permitted", "{record} {}", answer.text());
    let received = &bed.env.slack.received().at(PATH)[0];
    let sent = String::from_utf8_lossy(&received.body).into_owned();
    assert!(!sent.contains("xoxb-mine"), "{sent}");
    assert!(sent.starts_with("channel=C1"), "{sent}");
    assert!(sent.ends_with("text=hello"), "{sent}");
    Ok(())
}

#[rstest]
#[case::message("application/json", r#"{"channel":"C1","text":"a&token=b"}"#)]
#[case::utf8(
    "application/json; charset=UTF-8",
    r#" { "channel":"C1","text":"a&token=b"}"#
)]
#[case::of_a_kind("application/vnd.x+json", r#"{"channel":"C1","text":"hello"}"#)]
#[tokio::test]
async fn t71_json_passes_as_it_is(
    #[case] content_type: &str,
    #[case] body: &str,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    bed.client().send(post(content_type, body)?).await?;
    assert_eq!(bed.record().await?["outcome"], "permitted");
    let received = &bed.env.slack.received().at(PATH)[0];
    assert_eq!(received.body, body);
    Ok(())
}

#[rstest]
#[case::json_that_reads_as_a_form("application/x+json", r#"{"text":"a&token=b"}"#)]
#[case::charset("application/x-www-form-urlencoded; charset=utf-16", "token=x")]
#[case::bytes("text/plain", "t\0o\0k\0e\0n\0=\0x\0")]
#[tokio::test]
async fn t71_what_cannot_be_read_is_refused(
    #[case] content_type: &str,
    #[case] body: &str,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let answer = bed.client().send(post(content_type, body)?).await?;
    assert_eq!(answer.json()["error"], "form_unreadable");
    assert_eq!(bed.record().await?["reason"], "form_unreadable");
    assert!(bed.env.slack.received().at(PATH).is_empty());
    Ok(())
}

#[rstest]
#[case("limit=5&LIMIT=500", Some("condition_error"))]
#[case("LIMIT=500", Some("condition_error"))]
#[case("limit=5&limit[]=500", Some("condition_error"))]
#[case("limit%00=500", Some("condition_error"))]
#[case("limit=5&limit=500", Some("condition_error"))]
#[case("a=1;limit=500", Some("condition_error"))]
#[case("limit=500", Some("condition_false"))]
#[case("limit=5&a=1&A=2&b;c", None)]
#[tokio::test]
async fn t71_a_field_that_when_reads_stands_in_one_spelling(
    #[case] query: &str,
    #[case] reason: Option<&str>,
) -> anyhow::Result<()> {
    let when = "!has(request.query.limit) || int(request.query.limit) <= 100";
    let mut bed = TestBed::builder()
        .policy(|policy| policy.access(EXAMPLE)["conditions"] = json!({"when": when}))
        .start()
        .await?;
    let answer = bed.client().send(get(&format!("/some?{query}"))).await?;
    if let Some(reason) = reason {
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        bed.refused(reason).await?;
        return Ok(());
    }
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(bed.api.received().all()[0].host, HOST);
    Ok(())
}
