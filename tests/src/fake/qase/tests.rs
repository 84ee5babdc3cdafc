use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rstest::rstest;

use super::*;
use crate::client::{Answer, Client};

async fn start() -> Qase {
    Qase::start(&Authority::default()).await.unwrap()
}

async fn send(qase: &Qase, request: http::request::Builder, body: impl Into<Bytes>) -> Answer {
    Client::direct(qase.address(), qase.ca_pem())
        .send(request.body(Full::new(body.into())).unwrap())
        .await
        .unwrap()
}

async fn get(qase: &Qase, path: &str) -> Answer {
    let request = Request::get(format!("https://api.qase.io{path}")).header("Token", qase.token());
    send(qase, request, "").await
}

async fn post(qase: &Qase, path: &str, body: &str) -> Answer {
    let request = Request::post(format!("https://api.qase.io{path}"))
        .header("Token", qase.token())
        .header("content-type", "application/json");
    send(qase, request, body.to_owned()).await
}

#[rstest]
#[case::token(&[("Token", "{token}")], 200)]
#[case::jwt(&[("Authorization", "Bearer {jwt}")], 200)]
#[case::both(&[("Token", "{token}"), ("Authorization", "Bearer {jwt}")], 401)]
#[case::twice(&[("Token", "{token}"), ("Token", "{token}")], 401)]
#[case::token_as_bearer(&[("Authorization", "Bearer {token}")], 401)]
#[case::jwt_as_token(&[("Token", "{jwt}")], 401)]
#[case::dummy(&[("Token", "0000000000000000000000000000000000000000000000000000000000000000")], 401)]
#[case::upper_case(&[("Token", "{TOKEN}")], 401)]
#[case::none(&[], 401)]
#[tokio::test]
async fn exactly_one_real_credential_counts(#[case] headers: &[(&str, &str)], #[case] status: u16) {
    let qase = start().await;
    let mut request = Request::get("https://api.qase.io/v1/run/DEMO");
    for (name, value) in headers {
        let value = value
            .replace("{token}", &qase.token())
            .replace("{TOKEN}", &qase.token().to_uppercase())
            .replace("{jwt}", &qase.jwt());
        request = request.header(*name, value);
    }
    let answer = send(&qase, request, "").await;
    assert_eq!(answer.status.as_u16(), status);
    if status == 401 {
        assert_eq!(answer.json()["errorMessage"], "Unauthenticated.");
    }
}

#[tokio::test]
async fn the_dashboards_three_reads() {
    let qase = start().await;
    let runs = get(
        &qase,
        "/v1/run/DEMO?from_start_time=1795400000&limit=100&offset=0&include=cases",
    )
    .await;
    assert_eq!(
        runs.json()["result"]["entities"][0]["stats"]["statuses"]["failed"],
        1
    );
    let results = get(&qase, "/v1/result/DEMO?run=1%2C2&limit=100")
        .await
        .json();
    assert_eq!(results["result"]["filtered"], 3);
    let only_one = get(&qase, "/v1/result/DEMO?run=2").await.json();
    assert_eq!(only_one["result"]["filtered"], 1);
    let defects = get(&qase, "/v1/defect/DEMO?status=open").await.json();
    assert_eq!(defects["result"]["count"], 1);
    let resolved = get(&qase, "/v1/defect/DEMO?status=resolved").await.json();
    assert_eq!(resolved["result"]["count"], 0);
}

#[rstest]
#[case("/v1/run/DEMO?limit=100", 200, "")]
#[case("/v1/run/DEMO?limit=101", 422, "limit")]
#[case("/v1/run/DEMO?limit=0", 422, "limit")]
#[case("/v1/project?limit=1", 200, "")]
#[case("/v1/project?limit=0", 422, "limit")]
#[case("/v1/project?offset=x", 422, "offset")]
#[case("/v1/run/DEMO?offset=x", 422, "offset")]
#[case("/v1/run/OTHER", 404, "")]
#[case("/v1/run/DEMO/1", 200, "")]
#[case("/v1/run/DEMO/99", 404, "")]
#[case("/v1/case/DEMO", 404, "")]
#[tokio::test]
async fn bounds_and_names_are_checked(
    #[case] path: &str,
    #[case] status: u16,
    #[case] field: &str,
) {
    let qase = start().await;
    let answer = get(&qase, path).await;
    assert_eq!(answer.status.as_u16(), status);
    assert_eq!(answer.json()["status"], status == 200);
    let named = &answer.json()["errorFields"][0]["field"];
    assert_eq!(named.as_str().unwrap_or_default(), field);
}

#[tokio::test]
async fn runs_and_results_are_created() {
    let qase = start().await;
    let created = post(&qase, "/v1/run/DEMO", r#"{"title":"From a test"}"#).await;
    let id = created.json()["result"]["id"].as_u64().unwrap();
    assert_eq!(qase.runs(), 3);
    let one = post(
        &qase,
        &format!("/v1/result/DEMO/{id}"),
        r#"{"case_id":1,"status":"passed"}"#,
    )
    .await;
    assert_eq!(one.status, StatusCode::OK);
    let bulk = r#"{"results":[{"title":"a","execution":{"status":"passed"}},{"title":"b","execution":{"status":"failed"}}]}"#;
    let many = post(&qase, &format!("/v2/DEMO/run/{id}/results"), bulk).await;
    assert_eq!(many.status, StatusCode::ACCEPTED);
    assert_eq!(qase.results(), 6);
}

#[rstest]
#[case::no_title("/v1/run/DEMO", "{}", 422)]
#[case::not_json("/v1/run/DEMO", "title", 400)]
#[case::no_run("/v1/result/DEMO/99", r#"{"status":"passed"}"#, 404)]
#[case::no_status("/v1/result/DEMO/1", r#"{"case_id":1}"#, 422)]
#[case::empty_bulk("/v2/DEMO/run/1/results", r#"{"results":[]}"#, 422)]
#[case::half_bad(
    "/v2/DEMO/run/1/results",
    r#"{"results":[{"execution":{"status":"passed"}},{}]}"#,
    422
)]
#[tokio::test]
async fn bad_writes_change_nothing(#[case] path: &str, #[case] body: &str, #[case] status: u16) {
    let qase = start().await;
    assert_eq!(post(&qase, path, body).await.status.as_u16(), status);
    assert_eq!((qase.runs(), qase.results()), (2, 3));
}

#[tokio::test]
async fn a_reading_role_may_not_write() {
    let qase = start().await;
    qase.set_read_only(true);
    let refused = post(&qase, "/v1/run/DEMO", r#"{"title":"x"}"#).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(get(&qase, "/v1/run/DEMO").await.status, StatusCode::OK);
}

#[tokio::test]
async fn limits_say_when_to_come_back() {
    let qase = start().await;
    qase.limit(1, 60);
    let limited = get(&qase, "/v1/run/DEMO").await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(limited.header("retry-after"), Some("60"));
    assert_eq!(get(&qase, "/v1/run/DEMO").await.status, StatusCode::OK);
}

#[rstest]
#[case::at_the_bound(&[32 * 1024 * 1024], 200)]
#[case::one_byte_more(&[32 * 1024 * 1024 + 1], 413)]
#[case::two_files(&[3, 4], 200)]
#[case::no_file(&[], 422)]
#[case::twenty_one_files(&[1; 21], 422)]
#[tokio::test]
async fn attachments_have_bounds(#[case] sizes: &[usize], #[case] status: u16) {
    let qase = start().await;
    let mut body = Vec::new();
    for (index, size) in sizes.iter().enumerate() {
        let head = format!(
            "--b\r\nContent-Disposition: form-data; name=\"file[]\"; filename=\"{index}.bin\"\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.resize(body.len() + size, b'x');
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--\r\n");
    let request = Request::post("https://api.qase.io/v1/attachment/DEMO")
        .header("Token", qase.token())
        .header("content-type", "multipart/form-data; boundary=b");
    let answer = send(&qase, request, body).await;
    assert_eq!(answer.status.as_u16(), status);
    if status == 200 {
        assert_eq!(answer.json()["result"][0]["size"], sizes[0]);
    }
}

#[tokio::test]
async fn a_replaced_token_is_refused() {
    let qase = start().await;
    let old = qase.token();
    let new = qase.replace_token();
    assert_ne!(old, new);
    let request = Request::get("https://api.qase.io/v1/run/DEMO").header("Token", old);
    assert_eq!(
        send(&qase, request, "").await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(get(&qase, "/v1/run/DEMO").await.status, StatusCode::OK);
}
