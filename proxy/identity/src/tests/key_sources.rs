//! Where keys come from, and what happens if they are not available.

use std::sync::atomic::{AtomicUsize, Ordering};

use rstest::rstest;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::*;

/// Answers `GET /jwks` with the configured set; counts requests.
#[derive(Clone)]
struct KeyServer(Arc<KeyServerState>);

struct KeyServerState {
    answer: std::sync::Mutex<(u16, String)>,
    token: Option<&'static str>,
    asked: AtomicUsize,
}

impl KeyServer {
    async fn start(token: Option<&'static str>, status: u16, body: &Value) -> (Self, MockServer) {
        let server = MockServer::start().await;
        let state = Self(Arc::new(KeyServerState {
            answer: std::sync::Mutex::new((status, body.to_string())),
            token,
            asked: AtomicUsize::new(0),
        }));
        let any = Mock::given(wiremock::matchers::any());
        any.respond_with(state.clone()).mount(&server).await;
        (state, server)
    }

    fn set(&self, status: u16, body: &Value) {
        *self.0.answer.lock().unwrap() = (status, body.to_string());
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }
}

impl Respond for KeyServer {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let bearer = request
            .headers
            .get("authorization")
            .map(|v| v.to_str().unwrap());
        let expected = self.0.token.map(|token| format!("Bearer {token}"));
        if request.method.as_str() != "GET" || request.url.path() != "/jwks" {
            return ResponseTemplate::new(404);
        }
        if bearer != expected.as_deref() {
            return ResponseTemplate::new(403);
        }
        let (status, body) = self.0.answer.lock().unwrap().clone();
        let answer = ResponseTemplate::new(status).set_body_string(body);
        // The redirect's target has good keys: the redirect must not be followed.
        answer.insert_header("location", "/jwks?again")
    }
}

fn identifier(server: &MockServer) -> Identifier {
    let source = JwksSource::Url {
        url: format!("{}/jwks", server.uri()),
        ca_file: None,
    };
    Identifier::new(&[issuer(source)], Clock::manual(now())).unwrap()
}

async fn by(identifier: &Identifier, token: &Secret) -> Result<(), IdentifyError> {
    let caller = identifier.by_token(token, Proof::ServiceAccountToken).await;
    caller
        .map(|_| ())
        .map_err(|unproven| unproven.error().clone())
}

fn is_unavailable(result: &Result<(), IdentifyError>) -> bool {
    matches!(result, Err(IdentifyError::KeysUnavailable { .. }))
}

#[tokio::test]
async fn nothing_is_fetched_before_it_is_needed_and_then_once_for_all() {
    let (keys, server) = KeyServer::start(None, 200, &jwks(&[&RSA])).await;
    let identifier = identifier(&server);
    assert_eq!(keys.asked(), 0);
    let header = json!({ "alg": "RS256", "kid": "rsa-1" });
    let tokens: Vec<_> = (0..50)
        .map(|n| RSA.token(&header, &claims_with("jti", Some(n.to_string().into()))))
        .collect();
    let all = tokens.iter().map(|token| by(&identifier, token));
    let results = futures_util::future::join_all(all).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(keys.asked(), 1);
}

#[tokio::test]
async fn an_unknown_key_is_fetched_but_not_more_often_than_every_ten_seconds() {
    let (keys, server) = KeyServer::start(None, 200, &jwks(&[&RSA])).await;
    let identifier = identifier(&server);
    by(&identifier, &RSA.good_token()).await.unwrap();
    keys.set(200, &jwks(&[&RSA, &OTHER_RSA]));
    // Too soon after the last attempt.
    for _ in 0..20 {
        let early = by(&identifier, &OTHER_RSA.good_token()).await;
        assert_eq!(kind(&early.unwrap_err()), "UnknownKey");
    }
    assert_eq!(keys.asked(), 1);
    pass(Duration::from_secs(10)).await;
    by(&identifier, &OTHER_RSA.good_token()).await.unwrap();
    assert_eq!(keys.asked(), 2);
}

#[tokio::test]
async fn keys_outlive_an_outage_of_their_source() {
    let (keys, server) = KeyServer::start(None, 200, &jwks(&[&RSA])).await;
    let identifier = identifier(&server);
    by(&identifier, &RSA.good_token()).await.unwrap();
    keys.set(500, &json!({}));
    pass(Duration::from_hours(1)).await;
    by(&identifier, &RSA.good_token()).await.unwrap();
    // An unknown key may be a new one: the outage is at fault.
    let unknown = by(&identifier, &OTHER_RSA.good_token()).await;
    assert!(is_unavailable(&unknown), "{unknown:?}");
    assert_eq!(keys.asked(), 2);
}

#[tokio::test]
async fn a_key_that_was_withdrawn_is_not_used_after_a_pause() {
    let (keys, server) = KeyServer::start(None, 200, &jwks(&[&RSA])).await;
    let identifier = identifier(&server);
    by(&identifier, &RSA.good_token()).await.unwrap();
    keys.set(200, &jwks(&[&OTHER_RSA]));
    pass(Duration::from_mins(10)).await;
    let withdrawn = by(&identifier, &RSA.good_token()).await;
    assert_eq!(kind(&withdrawn.unwrap_err()), "UnknownKey");
}

#[rstest]
#[case::down(503, json!({}))]
#[case::redirect(302, json!({}))]
#[case::no_json(200, json!("keys"))]
#[case::no_keys(200, json!({ "keys": [] }))]
#[case::huge(200, json!({ "keys": [], "pad": "a".repeat(1024 * 1024) }))]
#[tokio::test]
async fn a_source_that_gives_no_keys_has_its_own_reason(#[case] status: u16, #[case] body: Value) {
    let (keys, server) = KeyServer::start(None, status, &body).await;
    let identifier = identifier(&server);
    for _ in 0..10 {
        let refused = by(&identifier, &RSA.good_token()).await;
        assert!(is_unavailable(&refused), "{refused:?}");
    }
    assert_eq!(keys.asked(), 1);
    keys.set(200, &jwks(&[&RSA]));
    pass(Duration::from_secs(1)).await;
    by(&identifier, &RSA.good_token()).await.unwrap();
}

#[tokio::test]
async fn nobody_listening_is_keys_unavailable() {
    let source = JwksSource::Url {
        url: "http://127.0.0.1:1/jwks".into(),
        ca_file: None,
    };
    let identifier = Identifier::new(&[issuer(source)], Clock::manual(now())).unwrap();
    let refused = by(&identifier, &RSA.good_token()).await;
    assert!(is_unavailable(&refused), "{refused:?}");
}

/// The API server shows its keys only to service accounts; the token is sent nowhere else.
#[rstest]
#[case::same_origin(true)]
#[case::other_origin(false)]
#[tokio::test]
async fn the_own_token_goes_to_the_api_server_only(#[case] same: bool) {
    let expected = same.then_some("gateway-token");
    let (_keys, server) = KeyServer::start(expected, 200, &jwks(&[&RSA])).await;
    let directory = tempfile::tempdir().unwrap();
    let source = JwksSource::Url {
        url: format!("{}/jwks", server.uri()),
        ca_file: None,
    };
    let mut issuer = issuer(source);
    issuer.token_review = Some(model::TokenReview {
        cluster: model::Cluster {
            url: if same {
                server.uri()
            } else {
                "http://127.0.0.1:1".into()
            },
            ca_file: None,
            token_file: write(directory.path(), "token", "gateway-token"),
        },
        cache_for: Duration::from_secs(10),
    });
    let identifier = Identifier::new(&[issuer], Clock::manual(now())).unwrap();
    let refused = by(&identifier, &RSA.good_token()).await.unwrap_err();
    // The keys were available; the review fails, which this server does not implement.
    assert!(
        matches!(refused, IdentifyError::ReviewUnavailable { .. }),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_file_is_read_again_when_it_changes() {
    let gateway = WithFile::new(&[&RSA]);
    gateway.by(&RSA.good_token()).await.unwrap();
    gateway.write(&jwks(&[&OTHER_RSA]).to_string());
    tokio::time::advance(Duration::from_secs(2)).await;
    gateway.by(&OTHER_RSA.good_token()).await.unwrap();
    // The known caller is checked again later.
    tokio::time::advance(REVERIFY).await;
    let withdrawn = gateway.by(&RSA.good_token()).await.unwrap_err();
    assert_eq!(kind(&withdrawn), "UnknownKey");
    // Half-written: the previous keys are used.
    gateway.write("{\"keys\": [");
    tokio::time::advance(Duration::from_secs(2)).await;
    gateway.by(&OTHER_RSA.good_token()).await.unwrap();
}

/// Each set has only this key; a token signed by it must not pass.
#[rstest]
#[case::for_encryption("use", json!("enc"), "KeysUnavailable")]
#[case::for_signing_only("key_ops", json!(["sign"]), "KeysUnavailable")]
#[case::for_another_algorithm("alg", json!("RS512"), "AlgorithmNotAllowed")]
#[case::for_a_forbidden_algorithm("alg", json!("HS256"), "KeysUnavailable")]
#[case::for_another_kind("alg", json!("ES256"), "KeysUnavailable")]
#[case::modulus_no_base64("n", json!("***"), "KeysUnavailable")]
#[case::modulus_missing("n", Value::Null, "KeysUnavailable")]
#[case::short_modulus("n", json!("A".repeat(170)), "KeysUnavailable")]
#[case::short_behind_zeros("n", json!(format!("{}{}", "A".repeat(400), "B".repeat(170))), "KeysUnavailable")]
#[case::long_modulus("n", json!("B".repeat(1400)), "KeysUnavailable")]
#[case::of_secret_kind("kty", json!("oct"), "KeysUnavailable")]
#[case::of_another_name("kid", json!("other"), "UnknownKey")]
#[case::without_name("kid", Value::Null, "UnknownKey")]
#[tokio::test]
async fn a_key_is_used_as_its_issuer_says_only(
    #[case] field: &str,
    #[case] value: Value,
    #[case] expected: &str,
) {
    let mut key = RSA.jwk();
    key[field] = value;
    let gateway = WithFile::of_document(&json!({ "keys": [key] }).to_string());
    let refused = format!("{:?}", gateway.by(&RSA.good_token()).await.unwrap_err());
    assert!(refused.starts_with(expected), "{refused}");
}

fn plain(number: &[u8]) -> String {
    encode(number)
}

fn with_sign_byte(number: &[u8]) -> String {
    encode([&[0], number].concat())
}

fn with_many_zeros(number: &[u8]) -> String {
    encode([&[0; 16], number].concat())
}

fn padded(number: &[u8]) -> String {
    base64::engine::general_purpose::URL_SAFE.encode(number)
}

/// As libraries write a number that begins with a zero byte.
fn without_zeros(number: &[u8]) -> String {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    encode(&number[zeros..])
}

/// Libraries write the numbers of a key in several ways. A token must not be blamed for that.
#[rstest]
#[case::rsa_sign_byte(&RSA, "RS256", &["n", "e"], with_sign_byte)]
#[case::rsa_zeros(&RSA, "PS256", &["n", "e"], with_many_zeros)]
#[case::rsa_padded(&RSA, "RS256", &["n", "e"], padded)]
#[case::ec_sign_byte(&P256, "ES256", &["x", "y"], with_sign_byte)]
#[case::ec_padded(&P384, "ES384", &["x", "y"], padded)]
#[case::ed25519_padded(&ED25519, "EdDSA", &["x"], padded)]
#[case::ed25519_by_its_new_name(&ED25519, "Ed25519", &["x"], plain)]
#[tokio::test]
async fn a_key_is_the_same_however_it_is_written(
    #[case] key: &LazyLock<Key>,
    #[case] algorithm: &str,
    #[case] fields: &[&str],
    #[case] write: fn(&[u8]) -> String,
) {
    let plain = key.jwk();
    let mut jwk = plain.clone();
    for field in fields {
        let number = URL_SAFE_NO_PAD.decode(plain[field].as_str().unwrap());
        jwk[field] = write(&number.unwrap()).into();
    }
    let document = json!({ "keys": [jwk] }).to_string();
    let gateway = WithFile::of_document(&document);
    let header = json!({ "alg": algorithm, "kid": key.id });
    let caller = gateway.by(&key.token(&header, &claims())).await.unwrap();
    // It is not withdrawn when its issuer writes it in another way.
    gateway.write(&json!({ "keys": [plain] }).to_string());
    pass(Duration::from_secs(2)).await;
    let other = key.token(&header, &claims_with("jti", Some("other".into())));
    gateway.by(&other).await.unwrap();
    assert_eq!(gateway.identifier.confirm(&caller).await, Ok(()));
}

/// A coordinate begins with a zero byte in one of 256 keys, and some libraries leave it out.
#[tokio::test]
async fn a_short_coordinate_is_filled_up() {
    let new = || EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let begins_with_zero = |pair: &EcdsaKeyPair| pair.public_key().as_ref()[1] == 0;
    let pair = std::iter::repeat_with(new).find(begins_with_zero).unwrap();
    let key = Key {
        id: "short",
        pair: Pair::P256(pair),
    };
    let mut jwk = key.jwk();
    let x = URL_SAFE_NO_PAD.decode(jwk["x"].as_str().unwrap()).unwrap();
    jwk["x"] = without_zeros(&x).into();
    let gateway = WithFile::of_document(&json!({ "keys": [jwk] }).to_string());
    let header = json!({ "alg": "ES256", "kid": "short" });
    gateway.by(&key.token(&header, &claims())).await.unwrap();
}

/// The issuer has the key that the token names, but it cannot be used: the fault is not the pod's.
#[rstest]
#[case::for_encryption("use", json!("enc"), "its `use` is not `sig`")]
#[case::for_another_algorithm("alg", json!("RSA-OAEP"), "its `alg` is not allowed")]
#[case::short("n", json!(encode([1; 128])), "its modulus is shorter than 2048 bits")]
#[case::even("n", json!(encode([2; 256])), "its numbers are not those of a public key")]
#[case::not_base64url("n", json!("a+/b"), "a parameter is not base64url")]
#[case::unknown_kind("kty", json!("AKP"), "its kind is not supported")]
#[tokio::test]
async fn a_key_that_cannot_be_used_is_not_the_tokens_fault(
    #[case] field: &str,
    #[case] value: Value,
    #[case] why: &str,
) {
    let mut jwk = RSA.jwk();
    jwk[field] = value;
    let document = json!({ "keys": [jwk, OTHER_RSA.jwk()] });
    let gateway = WithFile::of_document(&document.to_string());
    let refused = gateway.by(&RSA.good_token()).await.unwrap_err();
    assert_eq!(kind(&refused), "KeysUnavailable");
    let told = format!("the key \"rsa-1\" in its key set cannot be used: {why}");
    assert!(refused.to_string().ends_with(&told), "{refused}");
    assert_eq!(
        refused.reason(),
        countersign_core::reason::Reason::IdentityKeysUnavailable
    );
    gateway.by(&OTHER_RSA.good_token()).await.unwrap();
    // A set without any other says so too.
    let gateway = WithFile::of_document(&json!({ "keys": [document["keys"][0]] }).to_string());
    let refused = gateway.by(&RSA.good_token()).await.unwrap_err();
    assert!(refused.to_string().contains(why), "{refused}");
}

#[tokio::test]
async fn keys_of_unknown_kinds_are_passed_over() {
    let strange = json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "aaaa" });
    let wrong_point = json!({ "kty": "EC", "crv": "P-256", "x": "aaaa", "y": "aaaa" });
    let document = json!({ "keys": [strange, wrong_point, 7, RSA.jwk()] });
    let gateway = WithFile::of_document(&document.to_string());
    gateway.by(&RSA.good_token()).await.unwrap();
}

/// Each key with the same name may have to be tried for a bad token.
#[rstest]
#[case(4, true)]
#[case(5, false)]
#[tokio::test]
async fn few_keys_may_have_one_name(#[case] count: usize, #[case] good: bool) {
    let mut keys = vec![OTHER_RSA.jwk(); count];
    for key in &mut keys {
        key["kid"] = "rsa-1".into();
    }
    keys[count - 1] = RSA.jwk();
    let gateway = WithFile::of_document(&json!({ "keys": keys }).to_string());
    assert_eq!(gateway.by(&RSA.good_token()).await.is_ok(), good);
}

#[test]
fn roots_that_cannot_be_used_are_told_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let new = |ca_file: std::path::PathBuf| {
        let source = JwksSource::Url {
            url: "https://kubernetes.default.svc/openid/v1/jwks".into(),
            ca_file: Some(ca_file),
        };
        Identifier::new(&[issuer(source)], Clock::system())
    };
    let missing = new(directory.path().join("none"));
    assert!(matches!(missing, Err(SetupError::CaFile { .. })));
    let garbage = new(write(directory.path(), "ca.crt", "garbage"));
    assert!(matches!(garbage, Err(SetupError::CaPem { .. })));
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["ca.test".to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    assert!(new(write(directory.path(), "good.crt", &pem)).is_ok());
}

/// Whoever chose an algorithm that cannot be checked here is not the pod, if its issuer publishes the key.
#[rstest]
#[case::published(
    "p521",
    "KeysUnavailable",
    "ES512, and the key \"p521\" in its key set cannot be used"
)]
#[case::of_another_kind("rsa-1", "AlgorithmNotAllowed", "it is \"ES512\", and may be RS256")]
#[case::not_published("unknown", "AlgorithmNotAllowed", "it is \"ES512\", and may be RS256")]
#[tokio::test]
async fn an_algorithm_that_is_not_supported_blames_who_chose_it(
    #[case] kid: &str,
    #[case] expected: &str,
    #[case] told: &str,
) {
    let p521 =
        json!({ "kty": "EC", "crv": "P-521", "kid": "p521", "alg": "ES512", "x": "AA", "y": "AA" });
    let document = json!({ "keys": [RSA.jwk(), p521] });
    let gateway = WithFile::of_document(&document.to_string());
    let header = json!({ "alg": "ES512", "kid": kid });
    let message = format!(
        "{}.{}",
        encode(header.to_string()),
        encode(claims().to_string())
    );
    let error = gateway
        .by(&Secret::new(format!("{message}.AAAA")))
        .await
        .unwrap_err();
    assert_eq!(kind(&error), expected);
    assert!(error.to_string().contains(told), "{error}");
}
