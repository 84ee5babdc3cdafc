//! A pod whose own token is refused for good.

use countersign_config::model::Transparency;
use countersign_tests::{environment::DASHBOARD, fake::TokenRequest};
use rstest::rstest;
use tokio::net::TcpStream;

use super::{
    namespace::entered,
    steered::{REDIRECT, SLACK, direct_client, say, transparent},
};
use crate::{
    harness::{post_message, soon},
    identity::told_inside::other_audience,
};

/// Its client knows of no proxy: it gets an answer of the API inside its TLS, and no alert.
#[rstest]
#[case::tls(
    "https",
    "a_pods_token_that_is_refused_for_good_is_told_in_the_apis_language::case_1_tls"
)]
#[case::in_clear(
    "http",
    "a_pods_token_that_is_refused_for_good_is_told_in_the_apis_language::case_2_in_clear"
)]
#[tokio::test]
async fn a_pods_token_that_is_refused_for_good_is_told_in_the_apis_language(
    #[case] scheme: &str,
    #[case] test: &str,
) -> anyhow::Result<()> {
    if !entered(module_path!(), test, REDIRECT) {
        return Ok(());
    }
    let mut bed = transparent(Transparency::Redirect).start().await?;
    let token = other_audience(&bed.env, &TokenRequest::new("qa", DASHBOARD));
    bed.env.write_secret("pod-token", &token)?;
    let told = if scheme == "https" {
        let client = direct_client(&bed, SLACK);
        let sent = client.send(post_message("C0123456789", "steered"));
        soon("an answer", sent).await??.text()
    } else {
        let mut stream = TcpStream::connect(SLACK).await?;
        let head = b"GET /api/auth.test HTTP/1.1\r\nHost: slack.com\r\nConnection: close\r\n\r\n";
        String::from_utf8(say(&mut stream, head).await?)?
    };
    assert!(told.contains("\"error\":\"identity_audience\""), "{told}");
    let record = bed.recorded("identity_audience").await?;
    assert_eq!(
        record["refused_token"]["service_account"], DASHBOARD,
        "{record}"
    );
    assert_eq!(record["original_destination"], SLACK, "{record}");
    assert_eq!(record["target"]["name"], "slack", "{record}");
    Ok(())
}
