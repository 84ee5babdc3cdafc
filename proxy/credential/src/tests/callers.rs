//! Values that each caller has for itself.

use std::{future::Future, pin::Pin};

use countersign_config::model::TokenEndpoint;
use countersign_core::{bearer::Bearer, reason::Reason};

use super::*;

/// A caller with a fake proof that is never withdrawn.
#[derive(Debug)]
struct Pretended {
    key: [u8; 32],
    token: Option<Secret>,
    expires_at: Timestamp,
}

impl Pretended {
    fn new(token: &str, expires_at: Timestamp) -> Arc<Self> {
        let mut key = [0; 32];
        key[..token.len()].copy_from_slice(token.as_bytes());
        let token = Some(Secret::new(token.to_owned()));
        Arc::new(Self {
            key,
            token,
            expires_at,
        })
    }

    fn without_token(expires_at: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            key: [0; 32],
            token: None,
            expires_at,
        })
    }
}

impl Bearer for Pretended {
    fn key(&self) -> &[u8; 32] {
        &self.key
    }

    fn token(&self) -> Option<&Secret> {
        self.token.as_ref()
    }

    fn described(&self) -> String {
        "prod-eu system:serviceaccount:qa:nightly-dashboard".into()
    }

    fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    fn over<'a>(&'a self, clock: &'a Clock) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(clock.until(self.expires_at))
    }
}

fn exchanged() -> Arc<Credential> {
    let mut credential = credential(Provider::TokenExchange {
        endpoint: TokenEndpoint {
            url: "https://issuer.test/token".into(),
            revoke_url: None,
            ca_file: None,
        },
        client: None,
        scopes: Vec::new(),
        audience: None,
        resource: None,
    });
    credential.revoke_when_idle = true;
    Arc::new(credential)
}

fn of(fake: &Arc<Fake>, clock: &Clock) -> Credentials {
    let credentials = Credentials::with_fetcher(clock.clone(), Fetcher::Fake(Arc::clone(fake)));
    credentials.retain([&exchanged()]);
    credentials
}

#[tokio::test(start_paused = true)]
async fn t26_a_value_is_never_given_to_another_caller() {
    let fake = Fake::open(["a", "b", "c"].map(|text| value(text, None)));
    let credentials = of(&fake, &clock());
    let callers = ["one", "two"].map(|token| Pretended::new(token, at(3_600)));
    for _ in 0..3 {
        for (caller, expected) in callers.iter().zip(["a", "b"]) {
            let issued = credentials.obtain_for(&exchanged(), caller).await.unwrap();
            assert_eq!(issued.secret().expose(), expected);
        }
    }
    // The API rejects one caller's value; the other's stays.
    credentials.invalidate(&exchanged().name, 1);
    let first = credentials.obtain_for(&exchanged(), &callers[0]).await;
    assert_eq!(first.unwrap().secret().expose(), "c");
    let second = credentials.obtain_for(&exchanged(), &callers[1]).await;
    assert_eq!(second.unwrap().secret().expose(), "b");
    assert_eq!(fake.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_callers_token_and_is_revoked_then() {
    let clock = clock();
    let fake = Fake::open([revocable("a", Some(at(5_000))), revocable("b", None)]);
    let credentials = of(&fake, &clock);
    let caller = Pretended::new("one", at(3_000));
    let other = Pretended::new("two", at(3_600));
    let issued = credentials.obtain_for(&exchanged(), &caller).await.unwrap();
    assert_eq!(issued.expires_at(), Some(at(3_000)));
    assert_eq!(issued.renew_at, None, "it cannot be renewed beyond its run");
    drop(issued);
    credentials.obtain_for(&exchanged(), &other).await.unwrap();
    settle().await;
    clock.pass(at(2_999));
    assert!(fake.revoked().await.is_empty());
    clock.pass(at(3_000));
    // No one uses it at the gateway any more, but its issuer's upstream would still accept it.
    assert_eq!(fake.revoked().await, ["a"]);
    assert_eq!(slots(&credentials), 1);
    let late = credentials.obtain_for(&exchanged(), &caller).await;
    assert!(late.is_err());
}

#[tokio::test(start_paused = true)]
async fn idle_callers_are_forgotten() {
    let fake = Fake::open([revocable("a", None), Err(CredentialError::Abandoned)]);
    let credentials = of(&fake, &clock());
    for token in ["one", "two"] {
        let caller = Pretended::new(token, at(100_000));
        let _either = credentials.obtain_for(&exchanged(), &caller).await;
    }
    settle().await;
    assert_eq!(slots(&credentials), 2);
    tokio::time::advance(exchanged().idle_after).await;
    assert_eq!(fake.revoked().await, ["a"]);
    assert_eq!(slots(&credentials), 0);
}

#[tokio::test(start_paused = true)]
async fn callers_are_bounded_in_number() {
    let most = 10_000;
    let answers = (0..=most).map(|_| revocable("any", None));
    let fake = Fake::open(answers);
    fake.gate.add_permits(most);
    let credentials = of(&fake, &clock());
    for token in 0..=most {
        let caller = Pretended::new(&token.to_string(), at(100_000));
        credentials.obtain_for(&exchanged(), &caller).await.unwrap();
    }
    assert_eq!(slots(&credentials), most);
    assert_eq!(fake.revoked().await.len(), 1, "the one that gave way");
}

#[tokio::test]
async fn without_a_token_there_is_nothing_to_exchange() {
    let fake = Fake::open([]);
    let credentials = of(&fake, &clock());
    let refused = credentials.obtain(&exchanged()).await;
    assert_eq!(refused.unwrap_err(), CredentialError::NoToken);
    let by_certificate = Pretended::without_token(at(3_600));
    let refused = credentials.obtain_for(&exchanged(), &by_certificate).await;
    assert_eq!(refused.unwrap_err().reason(), Reason::CallerTokenMissing);
    assert_eq!(slots(&credentials), 0);
}

fn slots(credentials: &Credentials) -> usize {
    let table = credentials.table.load();
    table.entries.values().map(|entry| entry.all().len()).sum()
}
