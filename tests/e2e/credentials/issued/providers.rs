//! Each provider, from the issuer to the API.

use countersign_core::clock::Clock;
use countersign_tests::{
    fake::{Misbehaviour, Oauth, Protocol, Proves, SignerKind},
    resources::secret_file,
};
use http::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Accepts, Issued, IssuedApi, start, start_with};
use crate::harness::{HOST, get, until};

/// What a form must encode, and a Basic pair too.
const CLIENT_SECRET: &str = "s3cr:t %+ä&= 7b0f3f0c";

/// A credential that needs nothing else.
const NO_MORE: Value = Value::Null;

async fn client_credentials(by: &str) -> anyhow::Result<Issued> {
    let spec = json!({
        "tokenUrl": Oauth::token_url(),
        "client": {"id": "gate:way", "secret": secret_file("client-secret"), "secretBy": by},
        "scopes": ["read", "write"],
        "audience": "https://api.example.test",
    });
    let bed = start(("oauth2ClientCredentials", spec), NO_MORE).await?;
    let written = format!("{CLIENT_SECRET}\n");
    bed.env.write_secret("client-secret", &written)?;
    bed.register(match by {
        "post" => Proves::Post(CLIENT_SECRET.to_owned()),
        _ => Proves::Basic(CLIENT_SECRET.to_owned()),
    });
    Ok(bed)
}

/// A test bed whose credential is made with the signer's key.
async fn signing(kind: SignerKind, provider: &'static str, spec: Value) -> anyhow::Result<Issued> {
    start_with(
        Clock::default(),
        "Bearer",
        kind,
        |_| (provider, spec),
        NO_MORE,
    )
    .await
}

/// The signer's key, as a credential names it.
fn signing_key(id: &str, kind: SignerKind) -> Value {
    json!({"privateKey": secret_file("signing-key"), "keyId": id, "algorithm": kind.name()})
}

#[rstest]
#[case::basic("basic")]
#[case::post("post")]
#[tokio::test]
async fn client_credentials_by_secret(#[case] by: &str) -> anyhow::Result<()> {
    let mut bed = client_credentials(by).await?;
    for _ in 0..3 {
        let answer = bed.client().send(get("/report")).await?;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let said = answer.json();
        assert_eq!(said["subject"], "gate:way");
        assert_eq!(said["scopes"], json!(["read", "write"]));
        assert_eq!(said["audience"], "https://api.example.test");
        let record = bed.record().await?;
        assert_eq!(record["credential"]["name"], "qa/example", "{record}");
        bed.check_silence(&[&record.to_string(), &answer.text()]);
    }
    assert_eq!(bed.api.oauth.issued(), 1);
    assert_eq!(bed.api.oauth.received().count(), 1);
    Ok(())
}

#[rstest]
#[case::rs256(SignerKind::Rs256)]
#[case::ps256(SignerKind::Ps256)]
#[case::es256(SignerKind::Es256)]
#[case::eddsa(SignerKind::EdDsa)]
#[tokio::test]
async fn client_credentials_by_private_key_jwt(#[case] kind: SignerKind) -> anyhow::Result<()> {
    let spec = json!({
        "tokenUrl": Oauth::token_url(),
        "client": {"id": "gate:way", "key": signing_key("k1", kind)},
    });
    let bed = signing(kind, "oauth2ClientCredentials", spec).await?;
    let signer = bed.api.signer.clone();
    bed.register(Proves::PrivateKeyJwt(signer, Some("k1".into())));
    let answer = bed.client().send(get("/report")).await?;
    assert_eq!(answer.json()["subject"], "gate:way", "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn what_the_issuer_refuses_is_told_with_its_code_and_without_secrets() -> anyhow::Result<()> {
    let mut bed = client_credentials("basic").await?;
    bed.register(Proves::Basic("changed-5d1e07c4".to_owned()));
    let answer = bed.client().send(get("/report")).await?;
    let record = bed.record().await?;
    assert_eq!(record["reason"], "credential_refused", "{record}");
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("login.example.test"), "{record}");
    assert!(detail.contains("invalid_client"), "{record}");
    assert!(!record.to_string().contains(CLIENT_SECRET));
    bed.check_silence(&[&record.to_string(), &answer.text()]);
    assert_eq!(bed.api.received().count(), 0);
    Ok(())
}

#[tokio::test]
async fn an_issuer_that_is_down_is_blamed_and_what_was_issued_goes_on() -> anyhow::Result<()> {
    let mut bed = client_credentials("basic").await?;
    bed.api.oauth.answer_next(503, "{}");
    let answer = bed.client().send(get("/report")).await?;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let record = bed.record().await?;
    assert_eq!(
        record["reason"], "credential_source_unavailable",
        "{record}"
    );
    // It is up again, which is noticed by itself.
    until("recovery", async || {
        let answer = bed.client().send(get("/report")).await;
        answer.is_ok_and(|answer| answer.status == StatusCode::OK)
    })
    .await?;
    bed.api.oauth.misbehave(Some(Misbehaviour::ResetOnAccept));
    let answer = bed.client().send(get("/report")).await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn a_thousand_concurrent_first_requests_make_one_fetch() -> anyhow::Result<()> {
    const SESSIONS: usize = 20;
    const EACH: usize = 50;
    let bed = client_credentials("post").await?;
    let mut requests = JoinSet::new();
    let client = bed.client().over(Protocol::Http2);
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
    assert_eq!(bed.api.oauth.received().count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_name_and_a_password() -> anyhow::Result<()> {
    let spec = json!({"username": "Aladdin", "password": secret_file("password")});
    let (clock, kind) = (Clock::default(), SignerKind::EdDsa);
    let bed = start_with(clock, "Basic", kind, |_| ("basic", spec), NO_MORE).await?;
    bed.env.write_secret("password", "open sesame\n")?;
    bed.api
        .accept(Accepts::Basic("QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    let answer = bed.client().send(get("/report")).await?;
    assert_eq!(answer.json()["subject"], "basic", "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn a_token_that_the_gateway_signs() -> anyhow::Result<()> {
    let kind = SignerKind::Es256;
    let spec = json!({
        "issuer": "us",
        "subject": "dashboard",
        "audience": "https://api.example.test",
        "claims": {"tenant": 7},
        "key": signing_key("k1", kind),
    });
    let bed = signing(kind, "jwt", spec).await?;
    bed.api.accept(Accepts::Signed);
    let answer = bed.client().send(get("/report")).await?;
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
    let spec = json!({
        "issuer": "us",
        "subject": "dashboard",
        "key": {"privateKey": secret_file("signing-key"), "algorithm": "RS256"},
        "grant": {"tokenUrl": Oauth::token_url(), "scopes": ["read"]},
    });
    let bed = start(("jwt", spec), NO_MORE).await?;
    bed.api.oauth.trust("us", &bed.api.signer);
    let answer = bed.client().send(get("/report")).await?;
    assert_eq!(answer.json()["subject"], "dashboard", "{}", answer.text());
    assert_eq!(answer.json()["scopes"], json!(["read"]));
    Ok(())
}

#[tokio::test]
async fn a_github_apps_installation() -> anyhow::Result<()> {
    let obtained = |api: &IssuedApi| {
        let spec = json!({
            "issuer": api.github.app(),
            "key": {"privateKey": secret_file("signing-key")},
            "installation": {"url": api.github.installation_url()},
        });
        ("jwt", spec)
    };
    let (clock, kind) = (Clock::default(), SignerKind::Rs256);
    let bed = start_with(clock, "Bearer", kind, obtained, NO_MORE).await?;
    for _ in 0..2 {
        bed.client().send(get("/report")).await?;
    }
    assert_eq!(bed.api.github.issued(), 1);
    let shown = bed.api.received().all();
    let shown = shown[0].header("authorization").unwrap_or_default();
    assert!(shown.starts_with("Bearer ghs_"), "an installation's token");
    Ok(())
}
