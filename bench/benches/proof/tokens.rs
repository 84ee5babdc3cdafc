//! Tokens that prove nothing.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_config::model::{Issuer, JwksSource};
use countersign_core::{clock::Clock, secret::Secret};
use countersign_identity::{Identifier, Proof};
use futures_util::FutureExt as _;
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::report;

const ISS: &str = "https://kubernetes.default.svc.cluster.local";

pub(crate) fn measure() {
    let runtime = Runtime::new().expect("a runtime");
    let _within = runtime.enter();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("jwks.json");
    std::fs::write(&file, keys().to_string()).expect("a file");
    let identifier = Identifier::new(&[issuer(file)], Clock::system()).expect("a file");
    // The keys are read with the first.
    let first = token("rsa-2048", "RS256", 0, 256);
    let read = identifier.by_token(&first, Proof::ServiceAccountToken);
    assert!(runtime.block_on(read).is_err());
    let refuse = |token: &Secret| {
        let refused = identifier.by_token(token, Proof::ServiceAccountToken);
        let refused = refused.now_or_never().expect("nothing is to wait for");
        assert!(refused.is_err());
    };
    let mut number = 0;
    for (what, kid, algorithm, length, pad) in [
        ("RS256 by 2048 bits", "rsa-2048", "RS256", 256, 0),
        (
            "RS256 by 2048 bits, 16 KiB",
            "rsa-2048",
            "RS256",
            256,
            11_000,
        ),
        ("RS256 by 4096 bits", "rsa-4096", "RS256", 512, 0),
        ("PS512 by 8192 bits", "rsa-8192", "PS512", 1024, 0),
        ("ES256", "p256", "ES256", 64, 0),
        ("ES384", "p384", "ES384", 96, 0),
        ("EdDSA", "ed25519", "EdDSA", 64, 0),
        (
            "PS512 by 8192 bits, 4 keys of its name",
            "four",
            "PS512",
            1024,
            0,
        ),
    ] {
        let prepare = || {
            number += 1;
            let bare = token(kid, algorithm, number, length);
            if pad == 0 {
                bare
            } else {
                padded(kid, number, pad)
            }
        };
        let run = |token: Secret| refuse(&token);
        report(&format!("bad signature, {what}"), prepare, run);
    }
    let known = token("rsa-2048", "RS256", 0, 256);
    refuse(&known);
    report("bad signature, known", || (), |()| refuse(&known));
    not_ours(refuse);
    sets(&runtime);
}

/// A set of keys, as it is read when a token names a key that was not there: once a second at most.
fn sets(runtime: &Runtime) {
    let directory = tempfile::tempdir().expect("a directory");
    let key = |number: usize| rsa(&format!("key-{number}"), 1024);
    let document = json!({"keys": (0..64).map(key).collect::<Vec<_>>()}).to_string();
    let many = format!("{{\"keys\":[{}1]}}", "1,".repeat(500_000));
    let nested = format!("{{\"keys\":[{{\"kty\":[{}1]}}]}}", "1,".repeat(500_000));
    for (what, document) in [
        ("64 keys of 8192 bits", document),
        ("1 MB of numbers", many),
        ("1 MB of numbers in one", nested),
    ] {
        let file = directory.path().join("jwks.json");
        std::fs::write(&file, document).expect("a file");
        let token = token("none", "RS256", 0, 256);
        let prepare = || Identifier::new(&[issuer(file.clone())], Clock::system()).expect("a file");
        report(
            &format!("keys of an issuer, {what}"),
            prepare,
            |identifier| {
                let read = identifier.by_token(&token, Proof::ServiceAccountToken);
                assert!(runtime.block_on(read).is_err());
            },
        );
    }
}

/// Reads what is no token of an issuer of ours.
fn not_ours(refuse: impl Fn(&Secret)) {
    let nested = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let many = format!("[{}1]", "1,".repeat(5900));
    let twice = format!("{{{}}}", vec!["\"a\":{}"; 1500].join(","));
    for (what, payload) in [
        ("16 KiB of brackets", format!("{{\"aud\":{nested}}}")),
        (
            "16 KiB of numbers",
            format!("{{\"iss\":\"x\",\"aud\":{many}}}"),
        ),
        (
            "16 KiB of fields",
            format!("{{\"iss\":\"x\",\"kubernetes.io\":{twice}}}"),
        ),
        (
            "another issuer",
            json!({"iss": "https://nobody.example"}).to_string(),
        ),
    ] {
        let header = json!({"alg": "RS256", "kid": "rsa-2048"});
        let token = of_parts(&header, &payload, 256);
        report(
            &format!("no token of ours, {what}"),
            || (),
            |()| refuse(&token),
        );
    }
}

fn issuer(keys: PathBuf) -> Issuer {
    Issuer {
        name: "prod-eu".into(),
        issuer: ISS.into(),
        audience: "countersign".into(),
        max_token_life: std::time::Duration::from_hours(24),
        jwks: JwksSource::File(keys),
        token_review: None,
        pod_facts: None,
    }
}

fn rsa(name: &str, bytes: usize) -> Value {
    of(name, bytes, 0x5b)
}

/// A modulus of the right form; nobody knows how to sign for it.
fn of(name: &str, bytes: usize, fill: u8) -> Value {
    let mut modulus = vec![fill; bytes];
    modulus[0] |= 0x80;
    modulus[bytes - 1] |= 1;
    json!({"kty": "RSA", "kid": name, "n": encode(&modulus), "e": "AQAB"})
}

/// One of each kind, and as many of one name as there may be.
pub(crate) fn keys() -> Value {
    let ec = |name: &str, curve: &str, algorithm, length: usize| {
        let pair = KeyPair::generate_for(algorithm).expect("a key can be made");
        let (x, y) = pair.der_bytes()[1..].split_at(length);
        json!({"kty": "EC", "kid": name, "crv": curve, "x": encode(x), "y": encode(y)})
    };
    let edwards = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key can be made");
    json!({"keys": [
        rsa("rsa-2048", 256),
        rsa("rsa-4096", 512),
        rsa("rsa-8192", 1024),
        ec("p256", "P-256", &rcgen::PKCS_ECDSA_P256_SHA256, 32),
        ec("p384", "P-384", &rcgen::PKCS_ECDSA_P384_SHA384, 48),
        json!({"kty": "OKP", "kid": "ed25519", "crv": "Ed25519", "x": encode(edwards.der_bytes())}),
        of("four", 1024, 0x51),
        of("four", 1024, 0x52),
        of("four", 1024, 0x53),
        of("four", 1024, 0x54),
    ]})
}

/// A token whose signature is wrong, another for each number.
pub(crate) fn bad(number: usize) -> Secret {
    token("rsa-2048", "RS256", number, 256)
}

fn token(kid: &str, algorithm: &str, number: usize, signature: usize) -> Secret {
    let header = json!({"alg": algorithm, "kid": kid});
    let payload = json!({"iss": ISS, "jti": number.to_string()}).to_string();
    of_parts(&header, &payload, signature)
}

fn padded(kid: &str, number: usize, pad: usize) -> Secret {
    let header = json!({"alg": "RS256", "kid": kid});
    let payload = json!({"iss": ISS, "jti": number.to_string(), "pad": "a".repeat(pad)});
    of_parts(&header, &payload.to_string(), 256)
}

/// A signature in the range of its key, and wrong.
fn of_parts(header: &Value, payload: &str, signature: usize) -> Secret {
    let mut signature = vec![0x33; signature];
    // The largest part of Ed25519's scalar.
    signature.pop();
    signature.push(3);
    let signature = encode(&signature);
    let text = format!(
        "{}.{}.{signature}",
        encode(header.to_string().as_bytes()),
        encode(payload.as_bytes())
    );
    assert!(text.len() <= 16 * 1024, "{}", text.len());
    Secret::new(text)
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
