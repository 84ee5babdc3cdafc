use std::time::Duration;

use bytes::Bytes;
use countersign_config::{
    host::Host,
    model::{Attach, Place, Route, Strip, Template},
    path::{CanonicalPath, PathPatterns},
};
use countersign_core::{
    budget::{Charge, Purse},
    destination::Authority,
    secret::Secret,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, header, request::Parts};
use http_body_util::Full;
use rstest::rstest;

use super::{FormBounds, InjectError, Stripped, form, head, strip_form};

fn authority() -> Authority {
    Authority::new(Host::parse("slack.com").unwrap(), 443)
}

fn template(before: &str, after: &str) -> Template {
    Template {
        before: before.into(),
        after: after.into(),
    }
}

fn route(attach: Option<Attach>, strip: Strip) -> Route {
    Route {
        host: None,
        paths: PathPatterns::default(),
        deny: None,
        attach,
        strip,
        inspect_body: true,
    }
}

fn bearer() -> Attach {
    Attach {
        slot: "bot".into(),
        place: Place::Header {
            name: header::AUTHORIZATION,
            value: template("Bearer ", ""),
        },
    }
}

fn at(place: Place) -> Attach {
    Attach {
        slot: "bot".into(),
        place,
    }
}

fn request(target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn inject(parts: &mut Parts, route: &Route, secret: &str) -> Result<(), InjectError> {
    let path = CanonicalPath::check(parts.uri.path_and_query().unwrap()).unwrap();
    let secret = Secret::new(secret.into());
    let credential = route.attach.as_ref().map(|attach| (attach, &secret));
    head(parts, &authority(), &path, route, credential).map(drop)
}

#[rstest]
#[case::none(&[])]
#[case::one(&[("authorization", "Bearer xoxb-dummy")])]
#[case::several(&[("authorization", "Bearer a"), ("Authorization", "Basic b")])]
#[case::nominated(&[("connection", "close, Authorization"), ("authorization", "Bearer a")])]
fn the_callers_own_credential_gives_way_to_ours(#[case] headers: &[(&str, &str)]) {
    let route = route(Some(bearer()), Strip::default());
    let mut parts = request("/api/chat.postMessage", headers);
    inject(&mut parts, &route, "xoxb-real").unwrap();
    let all: Vec<_> = parts.headers.get_all("authorization").iter().collect();
    assert_eq!(all, ["Bearer xoxb-real"]);
    assert!(all[0].is_sensitive());
    assert!(!parts.headers.contains_key("connection"));
}

#[test]
fn hop_by_hop_headers_and_proxy_credentials_stay_here() {
    let mut parts = request(
        "/",
        &[
            ("connection", "keep-alive, x-private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Bearer pod"),
            ("te", "trailers"),
            ("trailer", "authorization"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
            ("expect", "100-continue"),
            ("x-kept", "yes"),
        ],
    );
    inject(&mut parts, &route(None, Strip::default()), "").unwrap();
    let mut left: Vec<_> = parts.headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["te", "x-kept"]);
}

#[test]
fn a_route_without_a_credential_sends_none() {
    let strip = Strip {
        headers: vec![header::AUTHORIZATION],
        ..Strip::default()
    };
    let mut parts = request("/upload/v1/x", &[("authorization", "Bearer xoxb-dummy")]);
    inject(&mut parts, &route(None, strip), "").unwrap();
    assert!(parts.headers.is_empty());
}

#[rstest]
#[case::imitation("x-api-key", "x_api_key", true)]
#[case::mixed("x-api-key", "x-api_key", true)]
#[case::dots("x-api-key", "x.api.key", true)]
#[case::another("x-api-key", "x_api_keys", false)]
#[case::ours_itself("x-api-key", "x-api-key", false)]
#[case::ours_has_the_underscore("x_api_key", "x_api_key", false)]
fn headers_that_read_like_ours_are_refused(
    #[case] ours: &'static str,
    #[case] sent: &str,
    #[case] refused: bool,
) {
    let place = Place::Header {
        name: HeaderName::from_static(ours),
        value: template("", ""),
    };
    let mut parts = request("/", &[(sent, "dummy")]);
    let result = inject(
        &mut parts,
        &route(Some(at(place)), Strip::default()),
        "real",
    );
    assert_eq!(result.is_err(), refused, "{result:?}");
}

#[rstest]
#[case::no_query("/v1/x", "/v1/x?key=re%26al")]
#[case::others_kept("/v1/x?b=2&a=%31", "/v1/x?b=2&a=%31&key=re%26al")]
#[case::own_copy("/v1/x?key=dummy&a=1&key=again", "/v1/x?a=1&key=re%26al")]
#[case::encoded_name("/v1/x?%6Bey=dummy", "/v1/x?key=re%26al")]
#[case::other_case("/v1/x?Key=2&a=1", "/v1/x?a=1&key=re%26al")]
#[case::list("/v1/x?key[]=2&key%5B0%5D=3&a=1", "/v1/x?a=1&key=re%26al")]
#[case::near_miss("/v1/x?keys=1&xkey=2", "/v1/x?keys=1&xkey=2&key=re%26al")]
fn a_query_field_is_replaced(#[case] sent: &str, #[case] forwarded: &str) {
    let place = Place::Query {
        name: "key".into(),
        value: template("", ""),
    };
    let mut parts = request(sent, &[]);
    inject(
        &mut parts,
        &route(Some(at(place)), Strip::default()),
        "re&al",
    )
    .unwrap();
    assert_eq!(
        parts.uri.to_string(),
        format!("https://slack.com{forwarded}")
    );
}

#[rstest]
#[case::path("/services/T1/B1/real", Some("/services/T1/B1/real?x=1"))]
#[case::url(
    "https://slack.com/services/T1/B1/real",
    Some("/services/T1/B1/real?x=1")
)]
#[case::another_host("https://evil.test/services/T1", None)]
#[case::no_path("https://slack.com", None)]
#[case::plain("http://slack.com/services", None)]
#[case::no_slash("services/T1", None)]
#[case::not_canonical("/services//T1", None)]
#[case::climbs_out("/services/../api/auth.revoke", None)]
#[case::of_another_kind("/api/auth.revoke", None)]
#[case::of_a_near_kind("/servicesx/T1/B1/real", None)]
fn a_webhooks_path_is_the_secret(#[case] secret: &str, #[case] forwarded: Option<&str>) {
    let place = Place::Path {
        value: template("", ""),
    };
    let mut parts = request("/services/countersign/daily?x=1", &[]);
    let result = inject(
        &mut parts,
        &route(Some(at(place)), Strip::default()),
        secret,
    );
    match forwarded {
        Some(target) => {
            result.unwrap();
            assert_eq!(parts.uri.to_string(), format!("https://slack.com{target}"));
        }
        None => assert!(matches!(result, Err(InjectError::Unusable(_)))),
    }
}

/// A route with paths says itself which kinds there are.
#[rstest]
#[case("/hooks/mine", "/services/T1/real", true)]
#[case("/services/mine", "/services/T1/real", true)]
#[case("/services/mine", "/triggers/T1/real", false)]
#[case("/services/mine", "/commands/T1/real", false)]
fn a_rewritten_path_stays_on_its_route(
    #[case] asked: &str,
    #[case] secret: &str,
    #[case] stays: bool,
) {
    let place = Place::Path {
        value: template("", ""),
    };
    let mut route = route(Some(at(place)), Strip::default());
    route.paths = PathPatterns::parse(&["/hooks/**", "/services/**"], false).unwrap();
    let result = inject(&mut request(asked, &[]), &route, secret);
    assert_eq!(result.is_ok(), stays, "{result:?}");
}

#[test]
fn a_secret_that_fits_no_header_is_not_shown_in_the_error() {
    let mut parts = request("/", &[]);
    let error = inject(
        &mut parts,
        &route(Some(bearer()), Strip::default()),
        "ca\nnary",
    )
    .unwrap_err();
    assert!(!error.to_string().contains("nary"));
}

#[rstest]
#[case::absent("channel=C1&text=hi", "channel=C1&text=hi")]
#[case::first("token=xoxb-dummy&channel=C1", "channel=C1")]
#[case::middle("a=1&token=x&b=2", "a=1&b=2")]
#[case::all("token=x", "")]
#[case::twice("token=x&a=1&token=y", "a=1")]
#[case::encoded_name("%74oken=x&a=%41+b", "a=%41+b")]
#[case::no_value("token&a=1", "a=1")]
#[case::in_a_value("text=token%3Dx", "text=token%3Dx")]
#[case::near_miss("tokens=1&xtoken=2&t=3", "tokens=1&xtoken=2&t=3")]
#[case::other_case("Token=x&TOKEN=y&a=1", "a=1")]
#[case::list("token[]=x&token[0]=y&token%5Ba%5D=z&a=1", "a=1")]
#[case::wide("%u0074oken=x&a=1", "a=1")]
#[case::byte_order_mark("\u{feff}token=x&a=1", "a=1")]
#[case::encoded_byte_order_mark("%EF%BB%BFtoken=x&a=1", "a=1")]
#[case::cut_by_nul("token%00=x&a=1", "a=1")]
#[case::white_space("+token%20=x&a=1", "a=1")]
#[case::other_separator("a=1;token=x&b=2", "b=2")]
#[case::odd_bytes("a=\u{e4}&&b=%zz&token=x", "a=\u{e4}&&b=%zz")]
fn t71_form_fields_go_and_every_other_byte_stays(#[case] sent: &str, #[case] kept: &str) {
    let left = form::without(sent.as_bytes(), |name| name == "token");
    assert_eq!(String::from_utf8(left).unwrap(), kept);
}

fn charge() -> Charge {
    Purse::unshared().charge()
}

fn bounds(bytes: usize) -> FormBounds {
    FormBounds {
        bytes,
        idle: Duration::from_secs(30),
    }
}

async fn stripped(
    content_types: &[&str],
    body: &'static str,
    limit: usize,
) -> (HeaderMap, Result<Stripped<Full<Bytes>>, InjectError>) {
    let mut headers = HeaderMap::new();
    for content_type in content_types {
        headers.append(
            header::CONTENT_TYPE,
            HeaderValue::from_str(content_type).unwrap(),
        );
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let strip = Strip {
        form_fields: vec!["token".into()],
        ..Strip::default()
    };
    let result = strip_form(
        &mut headers,
        Full::from(body),
        &strip,
        bounds(limit),
        charge,
    )
    .await;
    (headers, result)
}

#[tokio::test]
async fn a_rewritten_form_has_its_own_length() {
    let (headers, result) = stripped(
        &["Application/X-WWW-Form-Urlencoded; charset=utf-8"],
        "token=xoxb-dummy&channel=C1",
        1024,
    )
    .await;
    assert!(matches!(result, Ok(Stripped::Rewritten(body, _)) if body == "channel=C1"));
    assert_eq!(headers[header::CONTENT_LENGTH], "10");
}

#[rstest]
#[case::json(&["application/json; charset=utf-8"])]
#[case::json_of_a_kind(&["application/x+json"])]
#[case::problem(&["application/problem+JSON"])]
#[case::json_twice(&["application/json", "application/json"])]
#[case::nothing_said(&[])]
#[case::text(&["text/plain"])]
#[case::no_json(&["application/jsonp"])]
#[case::one_of_two(&["application/json", "application/x-www-form-urlencoded"])]
#[case::two_in_one(&["application/json, application/x-www-form-urlencoded"])]
#[tokio::test]
async fn t71_a_form_by_any_type_is_read_as_one(
    #[case] content_types: &[&str],
    #[values("token=x&a=1", "Token[]=x&a=1", "{&token=x&a=1")] body: &'static str,
) {
    let (headers, result) = stripped(content_types, body, 1024).await;
    let Ok(Stripped::Rewritten(kept, _)) = result else {
        panic!("{result:?}");
    };
    let expected = body.replace("token=x&", "").replace("Token[]=x&", "");
    assert_eq!(kept, expected);
    assert_eq!(headers[header::CONTENT_LENGTH], kept.len().to_string());
}

const MESSAGE: &str = r#" {"text":"see https://x.test/?a=1&token=abc","channel":"C1"}"#;

#[tokio::test]
async fn t71_json_is_streamed_though_it_speaks_of_a_token() {
    // However large it is.
    let (_, result) = stripped(&["application/json"], MESSAGE, 10).await;
    let Ok(Stripped::Untouched(begun, rest)) = result else {
        panic!("{result:?}");
    };
    let rest = http_body_util::BodyExt::collect(rest).await.unwrap();
    assert_eq!([&begun[..], &rest.to_bytes()].concat(), MESSAGE.as_bytes());
}

#[rstest]
#[case::of_another_type(&["application/x+json"], r#"{"text":"none","channel":"C1"}"#, true)]
#[case::with_a_token_in_it(&["application/x+json"], MESSAGE, false)]
#[case::in_two_types(&["application/json", "application/json"], MESSAGE, false)]
#[tokio::test]
async fn t71_json_by_another_type_passes_if_it_is_no_form_with_a_token(
    #[case] content_types: &[&str],
    #[case] body: &'static str,
    #[case] passes: bool,
) {
    let (_, result) = stripped(content_types, body, 1024).await;
    match result {
        Ok(Stripped::Rewritten(kept, _)) if passes => assert_eq!(kept, body),
        Err(InjectError::Form(_)) if !passes => {}
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::utf16(
    "application/x-www-form-urlencoded; charset=utf-16",
    "t\0o\0k\0e\0n\0=\0x\0"
)]
#[case::unsaid_utf16("application/x-www-form-urlencoded", "t\0o\0k\0e\0n\0=\0x\0")]
#[case::utf7("text/plain; charset=utf-7", "+AHQ-oken=x")]
#[tokio::test]
async fn t71_a_charset_hides_no_name(#[case] content_type: &str, #[case] body: &'static str) {
    let (_, result) = stripped(&[content_type], body, 1024).await;
    assert!(matches!(result, Err(InjectError::Form(_))), "{result:?}");
}

#[tokio::test]
async fn t47_a_form_that_overrides_the_method_is_refused() {
    let (_, result) = stripped(&["text/plain"], "a=1&_Method=DELETE", 1024).await;
    assert!(
        matches!(result, Err(InjectError::MethodField)),
        "{result:?}"
    );
}

#[rstest]
#[case::too_large(&["application/x-www-form-urlencoded"])]
#[case::multipart_of_another_kind(&["Multipart/mixed; boundary=x"])]
#[case::multipart_without_a_boundary(&["multipart/form-data"])]
#[case::multipart_among_others(&["application/json", "multipart/form-data; boundary=x"])]
#[tokio::test]
async fn a_form_that_cannot_be_checked_is_refused(#[case] content_types: &[&str]) {
    let (_, result) = stripped(content_types, "token=x&a=12345", 10).await;
    assert!(matches!(result, Err(InjectError::Form(_))));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stands_still_within_a_form_is_not_waited_for() {
    let strip = Strip {
        form_fields: vec!["token".into()],
        ..Strip::default()
    };
    let body = http_body_util::StreamBody::new(futures_util::stream::pending::<
        Result<http_body::Frame<Bytes>, std::convert::Infallible>,
    >());
    let result = strip_form(&mut HeaderMap::new(), body, &strip, bounds(10), charge).await;
    assert!(matches!(result, Err(InjectError::FormStalled(_))));
}
