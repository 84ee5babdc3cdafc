//! Valid tokens, and their near misses.

use rstest::rstest;

use super::*;

#[tokio::test]
async fn a_good_token_proves_all_that_it_says() {
    let gateway = WithFile::new(&[&RSA]);
    let token = RSA.good_token();
    let caller = gateway.by(&token).await.unwrap();
    assert_eq!(
        caller.subject(),
        "system:serviceaccount:qa:nightly-dashboard"
    );
    assert_eq!(caller.issuer(), "prod-eu");
    assert_eq!(
        caller.token_id(),
        Some("7a357c9a-6b4f-4d0c-9d83-0d6f0f3c8c11")
    );
    assert_eq!(caller.proof().as_str(), "service-account-token");
    assert_eq!(caller.expires_at().as_second(), now().as_second() + 540);
    assert_eq!(*caller.key(), sha256(token.expose().as_bytes()));
    let expected = CallerFacts {
        cluster: Some("prod-eu".into()),
        namespace: Some("qa".into()),
        service_account: Some("nightly-dashboard".into()),
        spiffe_id: None,
        pod: Some("nightly-dashboard-29341-x8k2p".into()),
        kubernetes: None,
    };
    assert_eq!(*caller.facts(), expected);
}

#[rstest]
#[case(&RSA, "RS256")]
#[case(&RSA, "RS384")]
#[case(&RSA, "RS512")]
#[case(&RSA, "PS256")]
#[case(&P256, "ES256")]
#[case(&P384, "ES384")]
#[case(&ED25519, "EdDSA")]
#[tokio::test]
async fn every_allowed_algorithm_works(#[case] key: &LazyLock<Key>, #[case] algorithm: &str) {
    let gateway = WithFile::new(&[&RSA, &P256, &P384, &ED25519]);
    let header = json!({ "alg": algorithm, "kid": key.id, "typ": "JWT" });
    let token = key.token(&header, &claims());
    gateway.by(&token).await.unwrap();
    // One bit of the signature: refused.
    let (message, signed) = token.expose().rsplit_once('.').unwrap();
    let mut signed = URL_SAFE_NO_PAD.decode(signed).unwrap();
    signed[20] ^= 1;
    let forged = Secret::new(format!("{message}.{}", encode(signed)));
    assert_eq!(
        kind(&gateway.by(&forged).await.unwrap_err()),
        "BadSignature"
    );
}

/// THREATS 34: manipulated headers. The signature is valid for the key that made it.
#[rstest]
#[case::none(json!({ "alg": "none", "kid": "rsa-1" }), "AlgorithmNotAllowed", "it is \"none\", and may be RS256")]
#[case::none_in_capitals(json!({ "alg": "None" }), "AlgorithmNotAllowed", "it is \"None\"")]
#[case::public_key_as_secret(
    json!({ "alg": "HS256", "kid": "rsa-1" }),
    "AlgorithmNotAllowed",
    "it is \"HS256\""
)]
#[case::of_another_kind_of_key(
    json!({ "alg": "RS256", "kid": "p256" }),
    "AlgorithmNotAllowed",
    "RS256 is not for the key \"p256\" of issuer prod-eu"
)]
#[case::of_another_key(
    json!({ "alg": "RS256", "kid": "rsa-2" }),
    "BadSignature",
    "not by the key \"rsa-2\" of issuer prod-eu"
)]
#[case::critical(
    json!({ "alg": "RS256", "kid": "rsa-1", "crit": ["exp"], "exp": 1 }),
    "Malformed",
    "its header has critical extensions"
)]
#[case::critical_but_empty(
    json!({ "alg": "RS256", "kid": "rsa-1", "crit": null }),
    "Malformed",
    "its header has critical extensions"
)]
#[case::path_as_key_name(
    json!({ "alg": "RS256", "kid": "../../dev/null" }),
    "UnknownKey",
    "the key \"../../dev/null\", which issuer prod-eu does not have in its key set; it has \"rsa-1\", \"rsa-2\", \"p256\""
)]
#[case::key_name_in_other_case(
    json!({ "alg": "RS256", "kid": "RSA-1" }),
    "UnknownKey",
    "the key \"RSA-1\""
)]
#[case::key_name_no_string(
    json!({ "alg": "RS256", "kid": 1 }),
    "Malformed",
    "its header is not a JOSE header"
)]
#[case::no_algorithm(
    json!({ "kid": "rsa-1" }),
    "Malformed",
    "its header is not a JOSE header"
)]
#[tokio::test]
async fn tricks_with_the_header_are_refused(
    #[case] header: Value,
    #[case] expected: &str,
    #[case] told: &str,
) {
    let gateway = WithFile::new(&[&RSA, &OTHER_RSA, &P256]);
    let mut sign_by = header.clone();
    if header["alg"] != "HS256" {
        sign_by["alg"] = "RS256".into();
    }
    let message = format!(
        "{}.{}",
        encode(header.to_string()),
        encode(claims().to_string())
    );
    let algorithm = sign_by["alg"].as_str().unwrap();
    let signed = encode(RSA.sign(algorithm, message.as_bytes()));
    let token = Secret::new(format!("{message}.{signed}"));
    let error = gateway.by(&token).await.unwrap_err();
    assert_eq!(kind(&error), expected);
    assert!(error.to_string().contains(told), "{error}");
}

/// THREATS 34, 36: a key in the token, or the address of one.
#[tokio::test]
async fn keys_that_a_token_brings_are_not_used() {
    let gateway = WithFile::new(&[&RSA]);
    for kid in ["rsa-1", "rsa-2"] {
        let header = json!({
            "alg": "RS256",
            "kid": kid,
            "jwk": OTHER_RSA.jwk(),
            "jku": "http://127.0.0.1:1/jwks",
            "x5u": "http://127.0.0.1:1/chain",
        });
        let token = OTHER_RSA.token(&header, &claims());
        let refused = gateway.by(&token).await.unwrap_err();
        let expected = match kid {
            "rsa-1" => "BadSignature",
            _ => "UnknownKey",
        };
        assert_eq!(kind(&refused), expected);
    }
    // Signed by the right key the same fields do no harm.
    let header = json!({ "alg": "RS256", "kid": "rsa-1", "jwk": OTHER_RSA.jwk() });
    gateway.by(&RSA.token(&header, &claims())).await.unwrap();
}

#[tokio::test]
async fn a_token_without_a_key_name_needs_the_choice_to_be_clear() {
    let token = RSA.token(&json!({ "alg": "RS256" }), &claims());
    WithFile::new(&[&RSA, &P256]).by(&token).await.unwrap();
    let two = WithFile::new(&[&RSA, &OTHER_RSA]).by(&token).await;
    let error = two.unwrap_err();
    assert_eq!(kind(&error), "UnknownKey");
    let told = "the token names no key, and so one that alone fits its algorithm, which issuer prod-eu does not \
                have in its key set; it has \"rsa-1\", \"rsa-2\"";
    assert_eq!(error.to_string(), told);
}

#[tokio::test]
async fn an_array_of_claims_in_their_order_is_no_token() {
    let gateway = WithFile::new(&[&RSA]);
    let claims = claims();
    let order = [
        "iss",
        "sub",
        "aud",
        "exp",
        "nbf",
        "iat",
        "jti",
        "kubernetes.io",
    ];
    let array = Value::from_iter(order.map(|name| claims[name].clone()));
    let header = json!({ "alg": "RS256", "kid": "rsa-1" });
    let refused = gateway.by(&RSA.token(&header, &array)).await.unwrap_err();
    assert!(
        matches!(refused, IdentifyError::Malformed(_)),
        "{refused:?}"
    );
}

#[rstest]
#[case::empty("")]
#[case::one_part("aaaa")]
#[case::two_parts("aaaa.bbbb")]
#[case::four_parts("e30.e30.e30.e30")]
#[case::encrypted("a.b.c.d.e")]
#[case::not_base64("*.*.*")]
#[case::no_json("aaaa.bbbb.cccc")]
#[case::slack_token("xoxb-1-2-3")]
#[tokio::test]
async fn what_is_no_token_is_malformed(#[case] text: &str) {
    let refused = WithFile::new(&[&RSA])
        .by(&Secret::new(text.into()))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, IdentifyError::Malformed(_)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn padding_and_length_are_not_forgiven() {
    let gateway = WithFile::new(&[&RSA]);
    let good = RSA.good_token();
    for text in [
        format!("{}==", good.expose()),
        format!("{}.", good.expose()),
        format!("{}{}", good.expose(), "A".repeat(16 * 1024)),
    ] {
        let refused = gateway.by(&Secret::new(text)).await.unwrap_err();
        assert!(
            matches!(refused, IdentifyError::Malformed(_)),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_caller_ends_with_its_token() {
    let gateway = WithFile::new(&[&RSA]);
    let token = RSA.good_token();
    let caller = gateway.by(&token).await.unwrap();
    let end = caller.expires_at();
    gateway
        .clock
        .set(end - jiff::SignedDuration::from_millis(1));
    assert_eq!(gateway.identifier.confirm(&caller).await, Ok(()));
    gateway.clock.set(end);
    assert!(caller.is_expired(end));
    let expired = gateway.identifier.confirm(&caller).await.unwrap_err();
    assert_eq!(kind(&expired), "Expired");
    assert_eq!(gateway.by(&token).await.unwrap_err(), expired);
    let told = format!("expired at {end}, less than 1s ago by this gateway's clock");
    assert!(expired.to_string().ends_with(&told), "{expired}");
}

/// THREATS 39.
#[tokio::test]
async fn tokens_are_remembered_by_their_whole_text_and_their_way() {
    let gateway = WithFile::new(&[&RSA]);
    let token = RSA.good_token();
    let header = json!({ "alg": "RS256", "kid": "rsa-1" });
    let other = claims_with("jti", Some("another".into()));
    let other = RSA.token(&header, &other);
    let first = gateway.by(&token).await.unwrap();
    let again = gateway.by(&token).await.unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    let second = gateway.by(&other).await.unwrap();
    assert_ne!(first.key(), second.key());
    assert_eq!(second.token_id(), Some("another"));
    let own = gateway
        .identifier
        .by_token(&token, Proof::OwnToken)
        .await
        .unwrap();
    assert_eq!(own.proof(), Proof::OwnToken);
    let no_token = gateway.identifier.by_token(&token, Proof::X509Svid).await;
    assert!(matches!(
        no_token.unwrap_err().error(),
        IdentifyError::Malformed(_)
    ));
    // The token's message with the tail of another signature is another token.
    let mut forged = token.expose().to_owned();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'Q' } else { 'A' });
    assert!(gateway.by(&Secret::new(forged)).await.is_err());
}

#[tokio::test]
async fn a_known_token_costs_no_wait() {
    use futures_util::FutureExt;
    let gateway = WithFile::new(&[&RSA]);
    let token = RSA.good_token();
    let caller = gateway.by(&token).await.unwrap();
    assert!(gateway.by(&token).now_or_never().expect("no wait").is_ok());
    let confirmed = gateway.identifier.confirm(&caller).now_or_never();
    assert_eq!(confirmed, Some(Ok(())));
}

#[tokio::test]
async fn each_issuer_vouches_with_its_own_keys_only() {
    let directory = tempfile::tempdir().unwrap();
    let of = |name: &str, iss: &str, key: &Key| {
        let file = write(directory.path(), name, &jwks(&[key]).to_string());
        model::Issuer {
            name: name.into(),
            issuer: iss.into(),
            ..issuer(JwksSource::File(file))
        }
    };
    let issuers = [of("eu", ISS, &RSA), of("us", "https://us.test", &OTHER_RSA)];
    let identifier = Identifier::new(&issuers, Clock::manual(now())).unwrap();
    let by = async |key: &Key, kid: &str, iss: &str| {
        let header = json!({ "alg": "RS256", "kid": kid });
        let token = key.token(&header, &claims_with("iss", Some(iss.into())));
        let caller = identifier
            .by_token(&token, Proof::ServiceAccountToken)
            .await;
        caller
            .map(|caller| caller.issuer().to_owned())
            .map_err(|unproven| unproven.error().clone())
    };
    assert_eq!(by(&RSA, "rsa-1", ISS).await, Ok("eu".into()));
    assert_eq!(
        by(&OTHER_RSA, "rsa-2", "https://us.test").await,
        Ok("us".into())
    );
    let foreign = by(&OTHER_RSA, "rsa-2", ISS).await;
    assert_eq!(kind(&foreign.unwrap_err()), "UnknownKey");
    let disguised = by(&OTHER_RSA, "rsa-1", ISS).await;
    assert_eq!(kind(&disguised.unwrap_err()), "BadSignature");
}

#[test]
fn two_issuers_of_one_name_are_refused() {
    let file = || issuer(JwksSource::File("/nowhere".into()));
    let refused = Identifier::new(&[file(), file()], Clock::system());
    assert!(matches!(refused, Err(SetupError::SameIssuer { .. })));
}

#[tokio::test]
async fn no_error_shows_the_token() {
    let gateway = WithFile::new(&[&P256]);
    for text in ["canary", "canary.canary.canary", RSA.good_token().expose()] {
        let token = Secret::new(text.into());
        let error = gateway.by(&token).await.unwrap_err();
        let shown = format!("{error} {error:?} {:?}", gateway.identifier);
        assert!(text.split('.').all(|part| !shown.contains(part)), "{shown}");
    }
}

#[tokio::test]
async fn the_own_token_is_read_anew_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let own = OwnToken::new(&directory.path().join("token"));
    let error = own.read().await.unwrap_err();
    assert!(matches!(error, IdentifyError::OwnTokenUnavailable { .. }));
    assert!(
        error.to_string().ends_with("token does not exist"),
        "{error}"
    );
    for text in ["one", "two"] {
        write(directory.path(), "token", text);
        assert_eq!(own.read().await.unwrap().expose(), text);
    }
}
