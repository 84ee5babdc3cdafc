//! Uploads, downloads, and webhooks.

use super::*;

async fn announce(bench: &Bench, length: usize) -> (String, String) {
    let form = format!("filename=a.txt&length={length}");
    let answer = bench
        .call(
            "files.getUploadURLExternal",
            &bench.slack.bot_token(),
            &form,
        )
        .await;
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    (text("upload_url"), text("file_id"))
}

#[tokio::test]
async fn a_file_is_uploaded_completed_once_and_downloaded() {
    let bench = Bench::start().await;
    let token = bench.slack.bot_token();
    let (url, id) = announce(&bench, 5).await;
    let files = format!(r#"files=[{{"id":"{id}","title":"a"}}]&channel_id=C1"#);
    let early = bench
        .call("files.completeUploadExternal", &token, &files)
        .await;
    assert_eq!(early["error"], "file_not_found");

    // The form label on raw bytes is what one SDK sends.
    let upload = post(&url).header("content-type", "application/x-www-form-urlencoded");
    let answer = bench.send(with(upload, "a=b&c")).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (StatusCode::OK, "OK - 5")
    );

    let done = bench
        .call("files.completeUploadExternal", &token, &files)
        .await;
    assert_eq!(done["files"][0]["id"], *id);
    let again = bench
        .call("files.completeUploadExternal", &token, &files)
        .await;
    assert_eq!(again["error"], "file_not_found");
    assert_eq!(bench.slack.completed_files(), [("a.txt".to_owned(), 5)]);

    let url = done["files"][0]["url_private"].as_str().unwrap();
    let bare = bench.send(with(Request::get(url), "")).await;
    assert_eq!(bare.status, StatusCode::FOUND);
    let get = Request::get(url).header(AUTHORIZATION, format!("Bearer {token}"));
    assert_eq!(bench.send(with(get, "")).await.text(), "a=b&c");
}

#[rstest]
#[case::credential(Some("Bearer {bot}"), "hello", StatusCode::FORBIDDEN)]
#[case::too_short(None, "hell", StatusCode::BAD_REQUEST)]
#[case::too_long(None, "hello!", StatusCode::BAD_REQUEST)]
#[tokio::test]
async fn an_upload_url_takes_the_announced_bytes_and_no_credential(
    #[case] authorization: Option<&str>,
    #[case] body: &str,
    #[case] status: StatusCode,
) {
    let bench = Bench::start().await;
    let (url, _) = announce(&bench, 5).await;
    let mut request = post(&url);
    if let Some(value) = authorization {
        request = request.header(
            AUTHORIZATION,
            value.replace("{bot}", &bench.slack.bot_token()),
        );
    }
    assert_eq!(bench.send(with(request, body)).await.status, status);
}

#[tokio::test]
async fn a_multipart_upload_counts_the_file_alone() {
    let bench = Bench::start().await;
    let (url, _) = announce(&bench, 5).await;
    let body = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nhello\r\n--b--\r\n";
    let request = post(&url).header("content-type", "multipart/form-data; boundary=b");
    assert_eq!(bench.send(with(request, body)).await.text(), "OK - 5");
}

#[tokio::test]
async fn a_large_file_streams() {
    let bench = Bench::start().await;
    let path = bench.slack.put_file("big.bin", 3 * 1024 * 1024 + 1);
    let get = Request::get(format!("https://files.slack.com{path}"))
        .header(AUTHORIZATION, format!("Bearer {}", bench.slack.bot_token()));
    let answer = bench.send(with(get, "")).await;
    assert_eq!(answer.body.len(), 3 * 1024 * 1024 + 1);
    let expected: Vec<u8> = (0..answer.body.len() as u64).map(body::pattern).collect();
    assert_eq!(answer.body, expected);
}

#[rstest]
#[case::real("{real}", r#"{"text":"hi"}"#, StatusCode::OK, "ok")]
#[case::form("{real}", "payload=%7B%22text%22%3A%22hi%22%7D", StatusCode::OK, "ok")]
#[case::wrong_secret("{real}x", r#"{"text":"hi"}"#, StatusCode::FORBIDDEN, "invalid_token")]
#[case::longer("{real}/x", r#"{"text":"hi"}"#, StatusCode::FORBIDDEN, "invalid_token")]
#[case::wrong_service(
    "/services/T9TK3CUKW/B1/x",
    r#"{"text":"hi"}"#,
    StatusCode::NOT_FOUND,
    "no_service"
)]
#[case::placeholder(
    "/services/countersign/dashboard",
    r#"{"text":"hi"}"#,
    StatusCode::NOT_FOUND,
    "no_team"
)]
#[case::not_json("{real}", "hi", StatusCode::BAD_REQUEST, "invalid_payload")]
#[case::not_an_object("{real}", r#""hi""#, StatusCode::BAD_REQUEST, "invalid_payload")]
#[case::empty("{real}", "{}", StatusCode::BAD_REQUEST, "no_text")]
#[tokio::test]
async fn a_webhook_is_its_path(
    #[case] path: &str,
    #[case] body: &str,
    #[case] status: StatusCode,
    #[case] text: &str,
) {
    let bench = Bench::start().await;
    let path = path.replace("{real}", &bench.slack.webhook_path());
    let answer = bench
        .send(with(post(&format!("https://hooks.slack.com{path}")), body))
        .await;
    assert_eq!((answer.status, answer.text().as_str()), (status, text));
    let posted = bench.slack.messages("webhook");
    assert_eq!(posted.len(), usize::from(status == StatusCode::OK));
}
