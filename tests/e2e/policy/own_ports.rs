//! The proxy's own ports are nowhere that a connection may go, by whatever way it is asked for.

use countersign_tests::client::Ask;
use http::StatusCode;
use rstest::rstest;
use tokio::net::TcpListener;

use crate::{
    harness::{TestBed, get},
    policy::connect,
};

/// Even where the operator lets loopback addresses be dialled.
#[rstest]
#[case::the_listener(false)]
#[case::the_admin_port(true)]
#[tokio::test]
async fn t30_the_proxys_own_ports_are_no_target(
    #[case] admin: bool,
    #[values("127.0.0.1", "[::ffff:127.0.0.1]")] host: &str,
) -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .tunnel_unmatched()
        .prepare(|_, gateway| {
            gateway.upstream.allow_addresses = vec!["127.0.0.0/8".parse()?, "::/0".parse()?];
            Ok(())
        })
        .start()
        .await?;
    let own = if admin {
        bed.admin()
    } else {
        bed.gateway.address()
    };
    let (answer, record) = connect(&mut bed, &format!("{host}:{}", own.port())).await?;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(record["reason"], "upstream_address", "{record}");
    // The near miss: any other port of this machine.
    let other = TcpListener::bind("127.0.0.1:0").await?;
    let target = format!("127.0.0.1:{}", other.local_addr()?.port());
    let tunnel = bed.client().tunnel(Ask::Http11, &target, None).await;
    assert!(tunnel.is_ok(), "{target} may be dialled");
    Ok(())
}

/// A name that reaches the port by another way than CONNECT.
#[tokio::test]
async fn t30_absolute_requests_to_the_admin_port_are_refused() -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .tunnel_unmatched()
        .prepare(|_, gateway| {
            gateway.upstream.allow_addresses = vec!["127.0.0.0/8".parse()?];
            Ok(())
        })
        .start()
        .await?;
    let admin = bed.admin();
    let mut request = get("/metrics");
    *request.uri_mut() = format!("http://{admin}/metrics").parse()?;
    let answer = bed.client().send_absolute(request).await?;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(bed.record().await?["reason"], "upstream_address");
    Ok(())
}
