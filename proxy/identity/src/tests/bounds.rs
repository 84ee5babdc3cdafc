//! How much computation unidentified clients can cause, and how it affects others.

use std::net::IpAddr;

use futures_util::FutureExt as _;
use tokio::net::TcpListener;

use super::*;

const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

/// A distinct token with a bad signature, under a configured issuer.
fn forged(number: usize) -> Secret {
    let header = json!({ "alg": "RS256", "kid": "rsa-1" });
    OTHER_RSA.token(
        &header,
        &claims_with("jti", Some(number.to_string().into())),
    )
}

async fn from(gateway: &WithFile, source: IpAddr, token: &Secret) -> Result<(), IdentifyError> {
    let proof = Proof::ServiceAccountToken;
    let caller = gateway
        .identifier
        .by_token_from(Some(source), token, proof)
        .await;
    let caller = caller.map_err(|unproven| unproven.error().clone());
    caller.map(drop)
}

#[tokio::test(start_paused = true)]
async fn t59_a_source_of_bad_tokens_makes_only_strangers_wait() {
    let gateway = WithFile::new(&[&RSA]);
    let known = RSA.good_token();
    from(&gateway, SOURCE, &known).await.unwrap();
    for number in 0..100 {
        let refused = from(&gateway, SOURCE, &forged(number)).await;
        assert_eq!(kind(&refused.unwrap_err()), "BadSignature");
    }
    let header = json!({ "alg": "RS256", "kid": "rsa-1" });
    let unknown = |jti: &str| RSA.token(&header, &claims_with("jti", Some(jti.into())));
    // An unknown token waits for a turn; a known one does not, nor does one from elsewhere.
    let waits = from(&gateway, SOURCE, &unknown("1")).now_or_never();
    assert_eq!(waits, None);
    let passes = from(&gateway, SOURCE, &known).now_or_never();
    assert_eq!(passes, Some(Ok(())));
    let passes = from(&gateway, ELSEWHERE, &unknown("2")).now_or_never();
    assert_eq!(passes, Some(Ok(())));
    from(&gateway, SOURCE, &unknown("1")).await.unwrap();
    // Also when the known token is checked again.
    tokio::time::advance(REVERIFY).await;
    for number in 100..200 {
        from(&gateway, SOURCE, &forged(number)).await.unwrap_err();
    }
    let passes = from(&gateway, SOURCE, &known).now_or_never();
    assert_eq!(passes, Some(Ok(())));
}

#[tokio::test]
async fn t59_a_token_that_was_found_bad_is_not_checked_again() {
    let gateway = WithFile::new(&[&RSA]);
    let elsewhere = claims_with("aud", Some("vault".into()));
    let elsewhere = RSA.token(&json!({ "alg": "RS256", "kid": "rsa-1" }), &elsewhere);
    for _ in 0..1000 {
        let refused = from(&gateway, SOURCE, &forged(1)).await;
        assert_eq!(kind(&refused.unwrap_err()), "BadSignature");
        let refused = from(&gateway, SOURCE, &elsewhere).await.unwrap_err();
        assert!(
            matches!(refused, IdentifyError::WrongAudience { .. }),
            "{refused:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_found_bad_is_checked_again_by_other_keys() {
    let gateway = WithFile::new(&[&RSA]);
    let token = forged(1);
    gateway.by(&token).await.unwrap_err();
    let mut key = OTHER_RSA.jwk();
    key["kid"] = "rsa-1".into();
    gateway.write(&json!({ "keys": [key] }).to_string());
    tokio::time::sleep(Duration::from_secs(2)).await;
    gateway.by(&token).await.unwrap();
}

#[tokio::test]
async fn t59_what_costs_much_to_read_is_refused_unread() {
    let gateway = WithFile::new(&[&RSA]);
    let of_header = |kid: usize| {
        let header = json!({ "alg": "RS256", "kid": "k".repeat(kid) });
        RSA.token(&header, &claims())
    };
    // 2 KiB of base64 are 1,536 bytes of JSON.
    let fits = gateway.by(&of_header(1400)).await.unwrap_err();
    assert_eq!(kind(&fits), "UnknownKey");
    let longer = gateway.by(&of_header(1600)).await.unwrap_err();
    let expected = IdentifyError::Malformed("its header is longer than 2 KiB");
    assert_eq!(longer, expected);
    let nested = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let nested = format!(r#"{{"iss":"{ISS}","aud":{nested}}}"#);
    let header = json!({ "alg": "RS256", "kid": "rsa-1" });
    let refused = gateway.by(&RSA.token_of_text(&header, &nested)).await;
    assert!(
        matches!(refused, Err(IdentifyError::Malformed(_))),
        "{refused:?}"
    );
}

/// Forged tokens cause no requests to the source of keys, whatever they contain.
#[tokio::test]
async fn t59_forged_tokens_never_reach_the_api_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "jwks.json", &jwks(&[&RSA]).to_string());
    let mut issuer = issuer(JwksSource::File(file));
    issuer.token_review = Some(model::TokenReview {
        cluster: model::Cluster {
            url: format!("http://{}", listener.local_addr().unwrap()),
            ca_file: None,
            token_file: write(directory.path(), "token", "gateway-token"),
        },
        cache_for: Duration::from_secs(10),
    });
    let identifier = Identifier::new(&[issuer], Clock::manual(now())).unwrap();
    let proof = Proof::ServiceAccountToken;
    for number in 0..50 {
        identifier
            .by_token(&forged(number), proof)
            .await
            .unwrap_err();
    }
    assert!(listener.accept().now_or_never().is_none());
}

/// An API server that never responds gets only the allowed number of requests; the others are told why.
#[tokio::test]
async fn t59_reviews_at_once_are_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "jwks.json", &jwks(&[&RSA]).to_string());
    let mut issuer = issuer(JwksSource::File(file));
    issuer.token_review = Some(model::TokenReview {
        cluster: model::Cluster {
            url: format!("http://{}", listener.local_addr().unwrap()),
            ca_file: None,
            token_file: write(directory.path(), "token", "gateway-token"),
        },
        cache_for: Duration::from_secs(10),
    });
    let identifier = Arc::new(Identifier::new(&[issuer], Clock::manual(now())).unwrap());
    let asking: Vec<_> = (0..40)
        .map(|number: usize| {
            let identifier = Arc::clone(&identifier);
            let header = json!({ "alg": "RS256", "kid": "rsa-1" });
            let jti = Some(number.to_string().into());
            let token = RSA.token(&header, &claims_with("jti", jti));
            tokio::spawn(async move {
                let asked = identifier.by_token(&token, Proof::ServiceAccountToken);
                asked.await.map(drop)
            })
        })
        .collect();
    let mut held = Vec::new();
    for _ in 0..32 {
        held.push(listener.accept().await.unwrap());
    }
    tokio::time::pause();
    let mut waited = 0;
    for asked in asking {
        let refused = asked.await.unwrap().unwrap_err();
        let told = refused.to_string();
        waited += usize::from(told.contains("32 other reviews are in progress"));
        assert!(
            matches!(refused.error(), IdentifyError::ReviewUnavailable { .. }),
            "{told}"
        );
    }
    assert_eq!(waited, 8);
}
