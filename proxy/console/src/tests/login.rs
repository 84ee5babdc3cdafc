//! Who is let in with a token, and from where.

use axum::http::header;

use super::*;

fn with_token(directory: &TempDir, token: &str) -> Router<()> {
    let file = directory.path().join("token");
    fs::write(&file, token).unwrap();
    let settings = model::Console {
        token_file: Some(file),
        hosts: vec!["console.example.com".parse().unwrap()],
    };
    console(settings, &failing())
}

fn form(token: &str, next: &str) -> Request<Body> {
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("token", token)
        .append_pair("next", next)
        .finish();
    request("POST", "/console/login")
        .header("sec-fetch-site", "same-origin")
        .body(Body::from(body))
        .unwrap()
}

#[tokio::test]
async fn the_token_opens_a_session() {
    let directory = tempfile::tempdir().unwrap();
    let console = with_token(&directory, TOKEN);
    let answer = get(&console, "/console/request?id=1").await;
    assert_eq!(answer.status, 401);
    assert!(
        answer.text.contains("value=\"/console/request?id=1\""),
        "{}",
        answer.text
    );
    assert!(!answer.text.contains("users.list"));
    assert_eq!(get(&console, "/console/console.css").await.status, 200);

    let wrong = send(&console, form("wrong", "/console")).await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.text.contains("not the token") && !wrong.headers.contains_key("set-cookie"));

    let right = send(&console, form(TOKEN, "/console/review")).await;
    assert_eq!(
        (right.status.as_u16(), &right.headers[header::LOCATION]),
        (303, &"/console/review".parse().unwrap())
    );
    let cookie = right.headers["set-cookie"].to_str().unwrap();
    assert!(
        cookie.contains("; HttpOnly; SameSite=Strict; Path=/console;") && !cookie.contains(TOKEN),
        "{cookie}"
    );
    assert!(
        !cookie.contains("Secure"),
        "it is opened by http here: {cookie}"
    );
    let cookie = cookie.split(';').next().unwrap();
    let asked = request("GET", "/console").header("cookie", format!("a=b; {cookie}"));
    let answer = send(&console, asked.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text.contains("users.list"));

    let asked = request("GET", "/console").header("authorization", format!("Bearer {TOKEN}"));
    assert_eq!(
        send(&console, asked.body(Body::empty()).unwrap())
            .await
            .status,
        200
    );
}

#[rstest]
#[case::elsewhere("//evil.example/console")]
#[case::absolute("https://evil.example/console")]
#[case::near_miss("/console.evil")]
#[case::double_slash("/console//evil.example")]
#[case::backslash("/console/\\evil.example")]
#[case::line_end("/console\r\nset-cookie: a=b")]
#[tokio::test]
async fn after_the_login_nothing_leads_away(#[case] next: &str) {
    let directory = tempfile::tempdir().unwrap();
    let console = with_token(&directory, TOKEN);
    let answer = send(&console, form(TOKEN, next)).await;
    assert_eq!(answer.headers[header::LOCATION], "/console");
}

#[rstest]
#[case::same("sec-fetch-site", "same-origin", 303)]
#[case::cross("sec-fetch-site", "cross-site", 403)]
#[case::sibling("sec-fetch-site", "same-site", 403)]
#[case::origin("origin", "http://127.0.0.1:9901", 303)]
#[case::other_origin("origin", "http://evil.example", 403)]
#[case::null("origin", "null", 403)]
#[case::nothing("x-nothing", "x", 403)]
#[tokio::test]
async fn the_form_comes_from_its_own_page(
    #[case] name: &str,
    #[case] value: &str,
    #[case] status: u16,
) {
    let directory = tempfile::tempdir().unwrap();
    let console = with_token(&directory, TOKEN);
    let mut asked = form(TOKEN, "/console");
    asked.headers_mut().remove("sec-fetch-site");
    asked.headers_mut().insert(
        http::HeaderName::try_from(name).unwrap(),
        value.parse().unwrap(),
    );
    assert_eq!(send(&console, asked).await.status, status);
}

#[tokio::test(start_paused = true)]
async fn wrong_tokens_are_soon_not_looked_at_and_sessions_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let console = with_token(&directory, TOKEN);
    let right = send(&console, form(TOKEN, "/console")).await;
    let cookie = right.headers["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let mut refused = 0;
    for number in 0..1_000 {
        let answer = send(&console, form(&format!("guess-{number}"), "/console")).await;
        refused += u32::from(answer.status == 429);
    }
    assert!(refused > 900, "{refused}");
    let right = send(&console, form(TOKEN, "/console")).await;
    assert_eq!(
        (right.status.as_u16(), &right.headers["retry-after"]),
        (429, &"3".parse().unwrap())
    );
    let asked = request("GET", "/console").header("cookie", cookie);
    assert_eq!(
        send(&console, asked.body(Body::empty()).unwrap())
            .await
            .status,
        200
    );
}

#[rstest]
#[case::short(Some("short"), "shorter than 20 characters")]
#[case::empty(Some(""), "cannot be read")]
#[case::missing(None, "cannot be read")]
#[tokio::test]
async fn without_a_usable_token_nobody_is_let_in(
    #[case] token: Option<&str>,
    #[case] expected: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let console = with_token(&directory, token.unwrap_or_default());
    if token.is_none() {
        fs::remove_file(directory.path().join("token")).unwrap();
    }
    let asked = request("GET", "/console").header("authorization", "Bearer short");
    let answer = send(&console, asked.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 503);
    assert!(answer.text.contains(expected), "{}", answer.text);
}

#[tokio::test]
async fn with_a_name_and_a_token_it_is_shown_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let console = with_token(&directory, TOKEN);
    let mut asked = form(TOKEN, "/console");
    let client: SocketAddr = "10.0.0.7:50000".parse().unwrap();
    asked.extensions_mut().insert(ConnectInfo(client));
    asked
        .headers_mut()
        .insert("host", "console.example.com".parse().unwrap());
    let answer = send(&console, asked).await;
    assert_eq!(answer.status, 303);
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    assert!(
        cookie.ends_with("; Secure"),
        "it is opened by https there: {cookie}"
    );
}
