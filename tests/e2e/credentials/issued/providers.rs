//! Each provider, from the issuer to the API.

use countersign_tests::{
    fake::{Misbehaviour, Protocol, Proves, SignerKind},
    world::Options,
};
use http::StatusCode;
use rstest::rstest;
use serde_json::json;
use tokio::task::JoinSet;

use super::{Accepts, Issued};
use crate::harness::site::{HOST, get, soon};

const BY_SECRET: &str = "  oauth2ClientCredentials:
    tokenUrl: {token_url}
    client: { id: \"gate:way\", secret: { file: {secrets}/client-secret }, secretBy: {by} }
    scopes: [read, write]
    audience: https://api.example.test
";

/// What a form must encode, and a Basic pair too.
const CLIENT_SECRET: &str = "s3cr:t %+ä&= 7b0f3f0c";

fn by_secret(by: &str) -> String {
    BY_SECRET.replace("{by}", by)
}

async fn client_credentials(by: &str) -> anyhow::Result<Issued> {
    let issued = Issued::start(Options::default(), &by_secret(by)).await?;
    issued
        .world
        .write_secret("client-secret", &format!("{CLIENT_SECRET}\n"))?;
    issued.register(match by {
        "post" => Proves::Post(CLIENT_SECRET.to_owned()),
        _ => Proves::Basic(CLIENT_SECRET.to_owned()),
    });
    Ok(issued)
}

#[rstest]
#[case::basic("basic")]
#[case::post("post")]
#[tokio::test]
async fn client_credentials_by_secret(#[case] by: &str) -> anyhow::Result<()> {
    let mut issued = client_credentials(by).await?;
    for _ in 0..3 {
        let answer = issued.client().send(get("/report")).await?;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let said = answer.json();
        assert_eq!(said["subject"], "gate:way");
        assert_eq!(said["scopes"], json!(["read", "write"]));
        assert_eq!(said["audience"], "https://api.example.test");
        let record = issued.record().await?;
        assert_eq!(record["credential"]["name"], "qa/example", "{record}");
        issued.check_silence(&[&record.to_string(), &answer.text()]);
    }
    assert_eq!(issued.oauth.issued(), 1);
    assert_eq!(issued.oauth.received().count(), 1);
    Ok(())
}

#[rstest]
#[case::rs256(SignerKind::Rs256)]
#[case::ps256(SignerKind::Ps256)]
#[case::es256(SignerKind::Es256)]
#[case::eddsa(SignerKind::EdDsa)]
#[tokio::test]
async fn client_credentials_by_private_key_jwt(#[case] kind: SignerKind) -> anyhow::Result<()> {
    let obtained = format!(
        "  oauth2ClientCredentials:\n    tokenUrl: {{token_url}}\n    client: {{ id: \"gate:way\", key: \
         {{ privateKey: {{ file: {{secrets}}/signing-key }}, keyId: k1, algorithm: {} }} }}\n",
        kind.name()
    );
    let issued = Issued::with(Options::default(), "Bearer", kind, &obtained).await?;
    issued.register(Proves::PrivateKeyJwt(
        issued.signer.clone(),
        Some("k1".into()),
    ));
    let answer = issued.client().send(get("/report")).await?;
    assert_eq!(answer.json()["subject"], "gate:way", "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn what_the_issuer_refuses_is_told_with_its_code_and_without_secrets() -> anyhow::Result<()> {
    let mut issued = client_credentials("basic").await?;
    issued.register(Proves::Basic("changed-5d1e07c4".to_owned()));
    let answer = issued.client().send(get("/report")).await?;
    let record = issued.record().await?;
    assert_eq!(record["reason"], "credential_refused", "{record}");
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("login.example.test"), "{record}");
    assert!(detail.contains("invalid_client"), "{record}");
    assert!(!record.to_string().contains(CLIENT_SECRET));
    issued.check_silence(&[&record.to_string(), &answer.text()]);
    assert_eq!(issued.api.memory().count(), 0);
    Ok(())
}

#[tokio::test]
async fn an_issuer_that_is_down_is_blamed_and_what_was_issued_goes_on() -> anyhow::Result<()> {
    let mut issued = client_credentials("basic").await?;
    issued.oauth.answer_next(503, "{}");
    let answer = issued.client().send(get("/report")).await?;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let record = issued.record().await?;
    assert_eq!(
        record["reason"], "credential_source_unavailable",
        "{record}"
    );
    // It is up again, which is noticed by itself.
    let recovered = soon(
        "recovery",
        Box::pin(async {
            loop {
                let answer = issued.client().send(get("/report")).await?;
                if answer.status == StatusCode::OK {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }),
    );
    recovered.await??;
    issued.oauth.misbehave(Some(Misbehaviour::ResetOnAccept));
    let answer = issued.client().send(get("/report")).await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn a_thousand_concurrent_first_requests_make_one_fetch() -> anyhow::Result<()> {
    const SESSIONS: usize = 20;
    const EACH: usize = 50;
    let issued = client_credentials("post").await?;
    let mut requests = JoinSet::new();
    let client = issued.client().over(Protocol::Http2);
    for _ in 0..SESSIONS {
        let mut session = client.open(HOST).await?;
        requests.spawn(async move {
            let mut answers = Vec::with_capacity(EACH);
            for _ in 0..EACH {
                answers.push(session.start(get("/report")).await);
            }
            answers
        });
    }
    let mut good = 0;
    while let Some(answers) = requests.join_next().await {
        for answer in answers? {
            good += usize::from(answer?.status() == StatusCode::OK);
        }
    }
    assert_eq!(good, SESSIONS * EACH);
    assert_eq!(issued.oauth.received().count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_name_and_a_password() -> anyhow::Result<()> {
    let obtained = "  basic: { username: Aladdin, password: { file: {secrets}/password } }\n";
    let kind = SignerKind::EdDsa;
    let issued = Issued::with(Options::default(), "Basic", kind, obtained).await?;
    issued.world.write_secret("password", "open sesame\n")?;
    issued.accept(Accepts::Basic("QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    let answer = issued.client().send(get("/report")).await?;
    assert_eq!(answer.json()["subject"], "basic", "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn a_token_that_the_gateway_signs() -> anyhow::Result<()> {
    let obtained = "  jwt:
    issuer: us
    subject: dashboard
    audience: https://api.example.test
    claims: { tenant: 7 }
    key: { privateKey: { file: {secrets}/signing-key }, keyId: k1, algorithm: ES256 }
";
    let kind = SignerKind::Es256;
    let issued = Issued::with(Options::default(), "Bearer", kind, obtained).await?;
    issued.accept(Accepts::Signed(issued.signer.clone()));
    let answer = issued.client().send(get("/report")).await?;
    let said = answer.json();
    assert_eq!(said["kid"], "k1", "{}", answer.text());
    let claims = &said["claims"];
    assert_eq!(claims["iss"], "us");
    assert_eq!(claims["aud"], "https://api.example.test");
    assert_eq!(claims["tenant"], 7);
    let life = claims["exp"].as_i64().unwrap_or(0) - claims["iat"].as_i64().unwrap_or(0);
    assert_eq!(life, 600);
    Ok(())
}

#[tokio::test]
async fn a_signed_token_that_is_handed_in_for_another() -> anyhow::Result<()> {
    let obtained = "  jwt:
    issuer: us
    subject: dashboard
    key: { privateKey: { file: {secrets}/signing-key }, algorithm: RS256 }
    grant: { tokenUrl: {token_url}, scopes: [read] }
";
    let issued = Issued::start(Options::default(), obtained).await?;
    issued.oauth.trust("us", &issued.signer);
    let answer = issued.client().send(get("/report")).await?;
    assert_eq!(answer.json()["subject"], "dashboard", "{}", answer.text());
    assert_eq!(answer.json()["scopes"], json!(["read"]));
    Ok(())
}

#[tokio::test]
async fn a_github_apps_installation() -> anyhow::Result<()> {
    let obtained = "  jwt:
    issuer: \"{app}\"
    key: { privateKey: { file: {secrets}/signing-key } }
    installation: { url: \"{installation}\" }
";
    let issued = Issued::start(Options::default(), obtained).await?;
    for _ in 0..2 {
        issued.client().send(get("/report")).await?;
    }
    assert_eq!(issued.github.issued(), 1);
    let shown = issued.api.memory().all();
    let shown = shown[0].header("authorization").unwrap_or_default();
    assert!(shown.starts_with("Bearer ghs_"), "an installation's token");
    Ok(())
}
