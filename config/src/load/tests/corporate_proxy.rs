//! `upstream.proxy`, and what belongs to it.

use rstest::rstest;

use super::{gateways::with, outline};
use crate::{
    model::{ProxyAuthentication, TrustRoots, UpstreamProxy},
    problem::{Problems, Severity},
};

/// With this under `upstream`, at line 5.
fn read(upstream: &str) -> Result<(Option<UpstreamProxy>, Problems), Problems> {
    let (gateway, warnings) = with(&format!("upstream: {{ {upstream} }}"))?;
    Ok((gateway.upstream.proxy, warnings))
}

#[rstest]
#[case::in_clear("proxy: \"http://proxy:3128\"", None)]
#[case::final_slash("proxy: \"HTTP://proxy:3128/\"", None)]
#[case::tls("proxy: \"https://proxy:3128\"", Some(TrustRoots::System))]
#[case::system(
    "proxy: \"https://proxy:3128\", proxyRoots: system",
    Some(TrustRoots::System)
)]
#[case::roots(
    "proxy: \"https://proxy:3128\", proxyRoots: /ca.pem",
    Some(TrustRoots::SystemAnd("/ca.pem".into()))
)]
fn a_proxy_is_spoken_to_in_clear_or_over_tls(
    #[case] upstream: &str,
    #[case] tls: Option<TrustRoots>,
) {
    let (proxy, warnings) = read(upstream).unwrap();
    assert!(warnings.0.is_empty(), "{warnings}");
    let proxy = proxy.unwrap();
    assert_eq!(
        (proxy.host.to_string().as_str(), proxy.port),
        ("proxy", 3128)
    );
    assert_eq!((proxy.tls, proxy.authentication), (tls, None));
}

#[rstest]
#[case::over_tls("https://proxy:3128", 0)]
#[case::in_clear("http://proxy:3128", 1)]
#[case::on_this_machine("http://127.0.0.1:3128", 0)]
fn a_password_in_clear_is_warned_of(#[case] proxy: &str, #[case] expected: usize) {
    let more = "proxyAuthentication: { username: me, passwordFile: /pw }";
    let (proxy, warnings) = read(&format!("proxy: \"{proxy}\", {more}")).unwrap();
    let authentication = ProxyAuthentication {
        username: "me".to_owned(),
        password_file: "/pw".into(),
    };
    assert_eq!(proxy.unwrap().authentication, Some(authentication));
    assert_eq!(warnings.0.len(), expected, "{warnings}");
    assert!(
        warnings
            .0
            .iter()
            .all(|problem| problem.severity == Severity::Warning)
    );
}

#[rstest]
#[case::no_port("proxy: \"http://proxy\"", "bad-url", "the port is never guessed")]
#[case::no_scheme("proxy: \"proxy:3128\"", "bad-url", "write `http://host:port`")]
#[case::socks("proxy: \"socks5://proxy:1080\"", "bad-url", "only HTTP proxies")]
#[case::path("proxy: \"http://proxy:3128/way\"", "bad-url", "has no path")]
#[case::password(
    "proxy: \"http://me:hunter2@proxy:3128\"",
    "bad-url",
    "proxyAuthentication: { username: NAME, passwordFile: FILE }"
)]
#[case::no_proxy("proxyRoots: /ca.pem", "contradiction", "there is no corporate proxy")]
#[case::nobody_to_show_it(
    "proxyAuthentication: { username: me, passwordFile: /pw }",
    "contradiction",
    "there is no corporate proxy"
)]
#[case::roots_in_clear(
    "proxy: \"http://proxy:3128\", proxyRoots: /ca.pem",
    "contradiction",
    "no certificate of it is checked"
)]
#[case::colon(
    "proxy: \"https://proxy:1\", proxyAuthentication: { username: \"me:pw\", passwordFile: /pw }",
    "bad-name",
    "has no colon"
)]
#[case::no_file(
    "proxy: \"https://proxy:1\", proxyAuthentication: { username: me, passwordFile: \"\" }",
    "bad-path",
    "not the path of a file"
)]
#[case::password_in_the_file(
    "proxy: \"https://proxy:1\", proxyAuthentication: { username: me, password: hunter2 }",
    "unknown-key",
    "passwordFile"
)]
fn mistakes_are_explained(#[case] upstream: &str, #[case] code: &str, #[case] told: &str) {
    let problems = read(upstream).unwrap_err();
    assert!(
        outline(&problems).contains(&format!("5: {code}")),
        "{problems}"
    );
    let rendered = problems.render(false);
    assert!(rendered.contains(told), "{rendered}");
    assert!(!rendered.contains("hunter2"), "{rendered}");
}
