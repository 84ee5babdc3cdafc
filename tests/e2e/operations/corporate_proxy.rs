//! The way out through a corporate proxy: over real TLS, with a password that rotates; and what is told of it
//! when it does not work.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use countersign_config::{
    host::Host,
    model::{self, ProxyAuthentication, TrustRoots, UpstreamProxy},
};
use countersign_tests::{
    environment::Environment,
    fake::{Authority, CorporateProxy},
};
use http::StatusCode;
use rstest::rstest;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::harness::{ApiUnderTest, HOST, TestBed, UNMATCHED, get};

const USER: &str = "gateway";

/// What the gateway is configured with.
fn configured(address: SocketAddr) -> UpstreamProxy {
    UpstreamProxy {
        host: Host::Ip(address.ip()),
        port: address.port(),
        tls: None,
        authentication: None,
    }
}

fn over_tls(address: SocketAddr, roots: &Path) -> UpstreamProxy {
    UpstreamProxy {
        tls: Some(TrustRoots::Only(roots.to_owned())),
        ..configured(address)
    }
}

fn password(file: &Path, password: &str) -> ProxyAuthentication {
    fs::write(file, password).expect("a file can be written");
    ProxyAuthentication {
        username: USER.to_owned(),
        password_file: file.to_owned(),
    }
}

/// A test bed whose gateway has no other way out.
async fn behind(env: Environment, proxy: UpstreamProxy) -> anyhow::Result<TestBed> {
    TestBed::builder()
        .within(env)
        .tunnel_unmatched()
        .gateway(move |gateway: &mut model::Gateway| {
            gateway.upstream.resolve.clear();
            gateway.upstream.proxy = Some(proxy);
            gateway.limits.connect_timeout = Duration::from_secs(1);
        })
        .start()
        .await
}

fn allow<A: ApiUnderTest>(proxy: &CorporateProxy, bed: &TestBed<A>) {
    for host in A::HOSTS {
        proxy.allow(&format!("{host}:443"), bed.api.address());
    }
}

#[tokio::test]
async fn a_proxy_with_tls_and_a_password_is_gone_through_and_its_password_rotates()
-> anyhow::Result<()> {
    let env = Environment::start().await?;
    let proxy = CorporateProxy::start(&env.authority).await?;
    proxy.require(USER, "first");
    let (roots, file) = (
        env.directory().join("upstream-roots.pem"),
        env.directory().join("password"),
    );
    let mut configured = over_tls(proxy.address(), &roots);
    configured.authentication = Some(password(&file, "first\n"));
    let mut bed = behind(env, configured).await?;
    allow(&proxy, &bed);
    let answer = bed.client().send(get("/some")).await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(bed.record().await?["outcome"], "permitted");
    assert_eq!(proxy.opened(), 1);

    // Its operators change the password; the next connection shows the old one.
    proxy.require(USER, "second");
    proxy.cut();
    let answer = bed.client().send(get("/some")).await?;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    let record = bed.recorded("upstream_proxy_authentication").await?;
    assert_eq!(record["blame"], "operator", "{record}");
    let detail = record["detail"].as_str().unwrap_or_default();
    for told in [
        "407 Proxy Authentication Required",
        "does not accept the user name",
        "[redacted]",
    ] {
        assert!(detail.contains(told), "{told}: {detail}");
    }
    // `gateway:first`, which the proxy repeats.
    assert!(
        !record.to_string().contains("Z2F0ZXdheTpmaXJzdA"),
        "{record}"
    );

    password(&file, "second");
    let answer = bed.client().send(get("/some")).await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn a_tunnel_goes_through_a_proxy_with_tls_too() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let proxy = CorporateProxy::start(&env.authority).await?;
    let roots = env.directory().join("upstream-roots.pem");
    let mut bed = behind(env, over_tls(proxy.address(), &roots)).await?;
    allow(&proxy, &bed);
    let mut request = get("/through");
    *request.uri_mut() = format!("https://{UNMATCHED}/through").parse()?;
    let answer = bed.end_to_end_client().send(request).await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(bed.record().await?["outcome"], "tunnelled");
    assert_eq!(proxy.opened(), 1);
    Ok(())
}

/// What is wrong with the proxy, or with what the gateway knows of it.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    Down,
    Nameless,
    Hangs,
    Refuses,
    WantsPassword,
    NoPasswordFile,
    CaUnknown,
    TlsInClear,
    ClearInTls,
    UpstreamDown,
}

#[rstest]
#[case(
    Wrong::Down,
    "upstream_proxy_unreachable",
    "platform",
    "connection refused"
)]
#[case(
    Wrong::Nameless,
    "upstream_proxy_unreachable",
    "platform",
    "proxy.invalid"
)]
#[case(
    Wrong::Hangs,
    "upstream_proxy_unreachable",
    "platform",
    "did not answer whether it opens a tunnel"
)]
#[case(
    Wrong::Refuses,
    "upstream_proxy_refused",
    "platform",
    "403 Forbidden: \"Access Denied Access Denied Category: Web API. Ask netops@corp.example"
)]
#[case(
    Wrong::WantsPassword,
    "upstream_proxy_authentication",
    "operator",
    "set upstream.proxyAuthentication"
)]
#[case(
    Wrong::NoPasswordFile,
    "upstream_proxy_authentication",
    "operator",
    "does not exist"
)]
#[case(
    Wrong::CaUnknown,
    "upstream_proxy_certificate",
    "operator",
    "certificate that was not accepted"
)]
#[case(
    Wrong::TlsInClear,
    "upstream_proxy_unreachable",
    "platform",
    "does not speak TLS"
)]
#[case(
    Wrong::ClearInTls,
    "upstream_proxy_refused",
    "platform",
    "write `https://`"
)]
#[case(
    Wrong::UpstreamDown,
    "upstream_proxy_failed",
    "upstream",
    "502 Bad Gateway: \"cannot connect"
)]
#[tokio::test]
async fn a_proxy_that_does_not_serve_is_blamed_and_quoted(
    #[case] wrong: Wrong,
    #[case] reason: &str,
    #[case] blame: &str,
    #[case] told: &str,
) -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let roots = env.directory().join("upstream-roots.pem");
    let in_clear = CorporateProxy::start_in_clear().await?;
    let with_tls = CorporateProxy::start(&env.authority).await?;
    // Kept open by the test's end: it accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let closed = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let proxy = match wrong {
        Wrong::Down => configured(closed),
        Wrong::Nameless => UpstreamProxy {
            host: Host::parse("proxy.invalid")?,
            ..configured(closed)
        },
        Wrong::Hangs => configured(silent.local_addr()?),
        Wrong::WantsPassword => {
            in_clear.require(USER, "secret");
            configured(in_clear.address())
        }
        Wrong::NoPasswordFile => UpstreamProxy {
            authentication: Some(ProxyAuthentication {
                username: USER.to_owned(),
                password_file: env.directory().join("nothing"),
            }),
            ..configured(in_clear.address())
        },
        Wrong::CaUnknown => {
            let other = env.directory().join("other.pem");
            fs::write(&other, Authority::default().pem())?;
            over_tls(with_tls.address(), &other)
        }
        Wrong::TlsInClear => over_tls(in_clear.address(), &roots),
        Wrong::ClearInTls => configured(with_tls.address()),
        Wrong::UpstreamDown => {
            in_clear.allow(&format!("{HOST}:443"), closed);
            configured(in_clear.address())
        }
        Wrong::Refuses => configured(in_clear.address()),
    };
    let mut bed = behind(env, proxy).await?;
    let answer = bed.client().send(get("/some")).await?;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{}", answer.text());
    let record: Value = bed.refused(reason).await?;
    assert_eq!(record["blame"], blame, "{record}");
    assert_eq!(record["outcome"], "failed", "{record}");
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains(told), "{detail}");
    // The caller learns nothing of the way out.
    assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    Ok(())
}
