//! Bodies stream: 128 MB each way raise the memory of a real gateway process by little.

use bytes::Bytes;
use countersign_tests::{
    client::Session, environment::Environment, fake::Protocol, process::Process,
};
use futures_util::StreamExt as _;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use rstest::rstest;

const LENGTH: u64 = 128_000_000;
const PIECE: u64 = 64_000;
/// Qase takes 32 MiB a file, and 128 MiB a request.
const FILES: u64 = 4;

/// How much the resident memory may rise, in KiB.
const MOST_KIB: u64 = 16 * 1024;

#[rstest]
#[case::over_http1(Protocol::Http1)]
#[case::over_http2(Protocol::Http2)]
#[tokio::test]
#[allow(
    clippy::print_stdout,
    reason = "the figure is what the test is about, beyond its bound"
)]
async fn transfers_of_128_mb_need_less_than_16_mb(
    #[case] protocol: Protocol,
) -> anyhow::Result<()> {
    let env = Environment::start().await?;
    env.slack.speak(protocol);
    env.qase.speak(protocol);
    let gateway = Process::start(&env, None).await?;
    let token = env.token("qa", "nightly-dashboard");
    let client = gateway.client().bearer(&token).over(protocol);

    // What the first request of each kind makes is not what a long body needs.
    download(&client, &env.slack.put_file("small.bin", PIECE), PIECE).await?;
    upload(&client, &env, FILES * PIECE).await?;
    for (what, downloads) in [("upload", false), ("download", true)] {
        gateway.forget_peak()?;
        let before = gateway.status("VmRSS")?;
        if downloads {
            let path = env.slack.put_file("large.bin", LENGTH);
            download(&client, &path, LENGTH).await?;
        } else {
            upload(&client, &env, LENGTH).await?;
        }
        let peak = gateway.status("VmHWM")?;
        let rise = peak.saturating_sub(before);
        println!(
            "128 MB {what}, {protocol:?} on both sides: \
             resident {before} KiB, at most {peak} KiB, a rise of {rise} KiB"
        );
        assert!(rise < MOST_KIB, "the {what} raised it by {rise} KiB");
    }
    Ok(())
}

async fn upload(
    client: &countersign_tests::client::Client,
    env: &Environment,
    length: u64,
) -> anyhow::Result<()> {
    let head = "--b\r\nContent-Disposition: form-data; name=\"file[]\"; filename=\"f\"\r\n\r\n";
    let tail = "--b--\r\n";
    let piece = Bytes::from(vec![b'x'; usize::try_from(PIECE)?]);
    let files = (0..FILES).flat_map(move |_| {
        let pieces = (0..length / FILES / PIECE).map({
            let piece = piece.clone();
            move |_| piece.clone()
        });
        std::iter::once(Bytes::from_static(head.as_bytes()))
            .chain(pieces)
            .chain([Bytes::from_static(b"\r\n")])
    });
    let all = files.chain([Bytes::from_static(tail.as_bytes())]);
    let frames =
        futures_util::stream::iter(all).map(|piece| Ok::<_, std::io::Error>(Frame::data(piece)));
    let request = Request::builder()
        .method(Method::POST)
        .uri("https://api.qase.io/v1/attachment/DEMO")
        .header("content-type", "multipart/form-data; boundary=b")
        .body(StreamBody::new(frames))?;
    let stream = client.tls_stream("api.qase.io").await?;
    let answer = Session::over(stream).await?.send(request).await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let received = env.qase.received().all();
    let received = received.last().expect("it was received");
    let expected = length + FILES * (head.len() as u64 + 2) + tail.len() as u64;
    assert_eq!((received.complete, received.body_length), (true, expected));
    Ok(())
}

async fn download(
    client: &countersign_tests::client::Client,
    path: &str,
    length: u64,
) -> anyhow::Result<()> {
    let mut session = client.open("files.slack.com").await?;
    let request = Request::get(format!("https://files.slack.com{path}"));
    let mut response = session.start(request.body(Full::default())?).await?;
    assert_eq!(response.status(), StatusCode::OK);
    let mut read = 0;
    while let Some(frame) = response.frame().await {
        if let Ok(data) = frame?.into_data() {
            read += data.len() as u64;
        }
    }
    assert_eq!(read, length);
    Ok(())
}
