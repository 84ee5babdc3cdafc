//! Multipart forms on a route that removes a form field: they stream, and the field never leaves.

use std::sync::Arc;

use bytes::Bytes;
use countersign_tests::{
    client::{Answer, Session},
    fake::{Protocol, Received},
};
use futures_util::StreamExt as _;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use rstest::rstest;
use serde_json::json;

use crate::harness::{HOST, TestBed, soon, until};

const PATH: &str = "/users.setPhoto";
const TYPE: &str = "multipart/form-data; boundary=b0";

/// Larger than `limits.formBytes`.
const IMAGE: usize = 3 * 1024 * 1024;

/// What a caller must not send, and the API must not see.
const MINE: &str = "xoxp-mine-0123456789";

async fn bed(upstream: Protocol) -> anyhow::Result<TestBed> {
    let bed = TestBed::builder()
        .policy(|policy| {
            let strip = json!({"formFields": ["token"]});
            policy.target("example")["routes"][0]["strip"] = strip;
        })
        .start()
        .await?;
    bed.api.speak(upstream);
    Ok(bed)
}

fn part(disposition: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("--b0\r\nContent-Disposition: form-data; {disposition}\r\n\r\n");
    [head.as_bytes(), content, b"\r\n"].concat()
}

fn image() -> Vec<u8> {
    part("name=\"image\"; filename=\"a.png\"", &vec![b'x'; IMAGE])
}

/// Sends a form in pieces, with or without a length; the answer, and the record's reason.
async fn send(
    bed: &TestBed,
    client: Protocol,
    form: Vec<u8>,
    length: bool,
) -> anyhow::Result<Answer> {
    let body: BoxBody<Bytes, std::io::Error> = if length {
        http_body_util::BodyExt::boxed(Full::from(form).map_err(|never| match never {}))
    } else {
        let pieces: Vec<_> = form.chunks(10_000).map(Bytes::copy_from_slice).collect();
        let frames = futures_util::stream::iter(pieces).map(|piece| Ok(Frame::data(piece)));
        http_body_util::BodyExt::boxed(StreamBody::new(frames))
    };
    let request = Request::post(format!("https://{HOST}{PATH}"))
        .header("content-type", TYPE)
        .body(body)?;
    let stream = bed.client().over(client).tls_stream(HOST).await?;
    let mut session = Session::over(stream).await?;
    soon("an answer", session.send(request))
        .await?
        .map_err(Into::into)
}

fn received(bed: &TestBed) -> Vec<Arc<Received>> {
    bed.api.received().at(PATH)
}

#[rstest]
#[tokio::test]
async fn a_form_without_the_field_streams_however_large_it_is(
    #[values(Protocol::Http1, Protocol::Http2)] client: Protocol,
    #[values(Protocol::Http1, Protocol::Http2)] upstream: Protocol,
    #[values(true, false)] length: bool,
) -> anyhow::Result<()> {
    let mut bed = bed(upstream).await?;
    let form = [image(), part("name=note", b"hello"), b"--b0--\r\n".to_vec()].concat();
    let sent = form.len() as u64;
    let answer = send(&bed, client, form, length).await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let [received] = &received(&bed)[..] else {
        panic!("it was received once");
    };
    assert!(received.complete);
    assert_eq!(received.body_length, sent);
    let parts = received.parts.as_ref().expect("a form");
    assert_eq!((parts[0].length, &*parts[1].name), (IMAGE as u64, "note"));
    assert_eq!(bed.record().await?["outcome"], "permitted");
    Ok(())
}

/// The upload is under way when the field comes: the request is broken off before it.
#[rstest]
#[case::late(true)]
#[case::first(false)]
#[tokio::test]
async fn a_form_with_the_field_is_broken_off_before_it(
    #[case] late: bool,
    #[values(Protocol::Http1, Protocol::Http2)] upstream: Protocol,
) -> anyhow::Result<()> {
    let mut bed = bed(upstream).await?;
    let image = if late { image() } else { Vec::new() };
    let mine = part("name=\"Token\"", MINE.as_bytes());
    let form = [image, mine, b"--b0--\r\n".to_vec()].concat();
    let answer = send(&bed, Protocol::Http2, form, false).await?;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    assert_eq!(answer.json()["reason"], "form_credential");
    let record = bed.recorded("form_credential").await?;
    assert_eq!(
        (&record["blame"], &record["outcome"]),
        (&json!("caller"), &json!("refused"))
    );
    let detail = record["detail"].as_str().unwrap_or_default();
    let part = if late { "(part 2)" } else { "(part 1)" };
    assert!(
        detail.contains("the field `token`") && detail.contains(part),
        "{detail}"
    );
    assert!(!record.to_string().contains(MINE));
    if late {
        until("the API to see that it is broken off", async || {
            !received(&bed).is_empty()
        })
        .await?;
    }
    for received in received(&bed) {
        assert!(
            !received.complete && !received.contains(MINE),
            "{received:?}"
        );
        assert!(!received.contains("Token"), "{received:?}");
    }
    Ok(())
}

#[rstest]
#[case::extended_name("name*=UTF-8''token")]
#[case::two_names("name=a; name=token")]
#[case::nested("name=a\"\r\nContent-Type: multipart/mixed; boundary=c")]
#[tokio::test]
async fn a_form_with_more_than_one_reading_is_refused(
    #[case] disposition: &str,
) -> anyhow::Result<()> {
    let mut bed = bed(Protocol::Http1).await?;
    let form = [part(disposition, MINE.as_bytes()), b"--b0--\r\n".to_vec()].concat();
    let answer = send(&bed, Protocol::Http1, form, true).await?;
    assert_eq!(
        answer.status,
        StatusCode::PAYLOAD_TOO_LARGE,
        "{}",
        answer.text()
    );
    let record = bed.recorded("form_unreadable").await?;
    assert_eq!(record["blame"], "caller");
    for received in received(&bed) {
        assert!(
            !received.complete && !received.contains(MINE),
            "{received:?}"
        );
    }
    Ok(())
}
