//! `slack-morphism`, on hyper with an ordinary tunnelling connector, reaches Slack without a
//! secret.

use http::{HeaderValue, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::{HttpConnector, proxy::Tunnel};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use slack_morphism::{
    SlackApiToken, SlackClient,
    hyper_tokio::SlackClientHyperConnector,
    prelude::{
        SlackApiChatPostMessageRequest, SlackApiConversationsHistoryRequest, SlackMessageContent,
    },
};

use crate::harness::{DUMMY_BOT, TestBed};

#[tokio::test(flavor = "multi_thread")]
async fn slack_morphism_posts_and_reads() {
    let bed = TestBed::start().await.unwrap();
    let client = SlackClient::new(SlackClientHyperConnector::with_connector(connector(&bed)));
    let token = SlackApiToken::new(DUMMY_BOT.into());
    let session = client.open_session(&token);
    let message = SlackMessageContent::new().with_text("2 of 14 failed".into());
    let request = SlackApiChatPostMessageRequest::new("C0RUST".into(), message);
    let posted = session.chat_post_message(&request).await.unwrap();
    assert_eq!(posted.channel, "C0RUST".into());
    let request = SlackApiConversationsHistoryRequest::new().with_channel("C0RUST".into());
    let history = session.conversations_history(&request).await.unwrap();
    let text = history.messages[0].content.text.as_deref();
    assert_eq!(text, Some("2 of 14 failed"));
    assert_eq!(bed.env.slack.messages("C0RUST"), ["2 of 14 failed"]);
    bed.check_received();
}

fn connector(bed: &TestBed) -> hyper_rustls::HttpsConnector<Tunnel<HttpConnector>> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bed.gateway.roots().as_bytes()) {
        roots
            .add(root.expect("the roots are PEM"))
            .expect("a root is a certificate");
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let tls = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("the provider has the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let proxy: Uri = format!("http://{}", bed.gateway.address())
        .parse()
        .expect("an address makes a URI");
    let bearer =
        HeaderValue::try_from(format!("Bearer {}", bed.token)).expect("a token is a header value");
    let tunnel = Tunnel::new(proxy, HttpConnector::new()).with_auth(bearer);
    HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_all_versions()
        .wrap_connector(tunnel)
}
