//! A source that does not respond: the first request waits for it, and later ones only briefly.

use countersign_control_plane::{
    TransportError,
    kube::{KubeError, MissingRights, Right},
};
use countersign_core::outage::PROMPT;
use rstest::rstest;
use tokio::time::{Instant, advance, sleep};

use super::*;
use crate::{source::Recheck, vault::VaultError};

/// The timeout for Vault or an issuer.
const LONG: Duration = Duration::from_secs(10);

fn silent() -> CredentialError {
    CredentialError::Issuer {
        host: "issuer.test".into(),
        fault: IssuerFault::Unavailable("no complete response within 10 s".into()),
    }
}

/// Makes the source respond once, after a while.
fn answers_after(fake: &Arc<Fake>, time: Duration) {
    let fake = Arc::clone(fake);
    tokio::spawn(async move {
        sleep(time).await;
        fake.gate.add_permits(1);
    });
}

/// The result of a request, and how long it waited.
async fn obtained(credentials: &Credentials) -> (Result<Arc<Issued>, CredentialError>, Duration) {
    let began = Instant::now();
    (credentials.obtain(&any()).await, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn who_has_no_value_waits_a_second_once_the_first_has_waited() {
    let fake = Fake::gated([Err(silent()), Err(silent()), value("one", None)]);
    let credentials = Credentials::with_fetcher(clock(), Fetcher::Fake(Arc::clone(&fake)));
    answers_after(&fake, LONG);
    let (refused, waited) = obtained(&credentials).await;
    assert_eq!((refused.unwrap_err(), waited), (silent(), LONG));
    advance(Duration::from_secs(1)).await;
    answers_after(&fake, LONG);
    // All of them join the one attempt in progress.
    for _ in 0..9 {
        let (refused, waited) = obtained(&credentials).await;
        assert_eq!((refused.unwrap_err(), waited), (silent(), PROMPT));
    }
    assert_eq!(fake.fetches(), 2);
    // That attempt fails too.
    advance(Duration::from_secs(2)).await;
    settle().await;
    advance(Duration::from_secs(1)).await;
    // It responds again.
    answers_after(&fake, PROMPT / 2);
    let (issued, waited) = obtained(&credentials).await;
    assert_eq!(issued.unwrap().secret().expose(), "one");
    assert_eq!(waited, PROMPT / 2);
}

#[tokio::test(start_paused = true)]
async fn who_has_a_value_does_not_wait_at_all() {
    let looked_up = |text: &str| {
        let mut fetched = value(text, None)?;
        fetched.recheck = Some(Recheck {
            due: Duration::from_secs(1),
            overdue: Duration::from_secs(2),
            grace: Duration::from_hours(1),
        });
        Ok(fetched)
    };
    let fake = Fake::gated([looked_up("one"), Err(silent()), looked_up("two")]);
    let credentials = Credentials::with_fetcher(clock(), Fetcher::Fake(Arc::clone(&fake)));
    fake.gate.add_permits(1);
    credentials.obtain(&any()).await.unwrap();
    advance(LONG).await;
    answers_after(&fake, LONG);
    let (issued, waited) = obtained(&credentials).await;
    assert_eq!(
        waited, LONG,
        "the first waits: it may be that it was withdrawn"
    );
    assert!(issued.unwrap().is_stale());
    for _ in 0..9 {
        advance(Duration::from_secs(2)).await;
        let (issued, waited) = obtained(&credentials).await;
        assert_eq!(waited, Duration::ZERO);
        assert!(issued.unwrap().is_stale());
    }
    // The attempt is in progress all the time.
    fake.gate.add_permits(1);
    settle().await;
    let (issued, waited) = obtained(&credentials).await;
    assert_eq!(waited, Duration::ZERO);
    let issued = issued.unwrap();
    assert_eq!(issued.secret().expose(), "two");
    assert!(!issued.is_stale());
}

#[tokio::test(start_paused = true)]
async fn one_that_refuses_at_once_is_waited_for() {
    let fake = Fake::gated([Err(silent()), value("one", None)]);
    let credentials = Credentials::with_fetcher(clock(), Fetcher::Fake(Arc::clone(&fake)));
    fake.gate.add_permits(1);
    let (refused, waited) = obtained(&credentials).await;
    assert_eq!((refused.unwrap_err(), waited), (silent(), Duration::ZERO));
    advance(Duration::from_secs(1)).await;
    answers_after(&fake, LONG);
    let (issued, waited) = obtained(&credentials).await;
    assert_eq!((issued.is_ok(), waited), (true, LONG));
}

fn kube(error: KubeError, lately: bool) -> SourceError {
    SourceError::Kube {
        namespace: "qa".into(),
        name: "slack".into(),
        error,
        lately,
    }
}

fn forbidden() -> KubeError {
    KubeError::Forbidden(MissingRights::only(Right::on_secret("list", "qa", "slack")))
}

fn denied() -> VaultError {
    VaultError::Denied {
        path: "secret/data/slack".into(),
        capabilities: r#""read""#,
    }
}

fn login_refused() -> VaultError {
    VaultError::LoginRefused {
        mount: "kubernetes".into(),
        role: "countersign".into(),
        status: 403,
        said: "permission denied".into(),
    }
}

const USUAL: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);

/// A refusal of the gateway itself is bridged for a moment; a statement that there is no secret is not.
#[rstest]
#[case::role_not_read_yet(kube(forbidden(), true), USUAL)]
#[case::role_taken_away(kube(forbidden(), false), Duration::ZERO)]
#[case::token_not_known_yet(kube(KubeError::Unauthorized("".into()), true), USUAL)]
#[case::token_ended(kube(KubeError::Unauthorized("".into()), false), Duration::ZERO)]
#[case::kube_is_down(kube(KubeError::Transport(TransportError::Lost("".into())), false), USUAL)]
#[case::kube_is_busy(kube(KubeError::Busy, false), USUAL)]
#[case::kube_is_silent(kube(KubeError::Silent, false), USUAL)]
#[case::vault_denies(SourceError::Vault(denied()), MINUTE)]
#[case::vault_refuses_the_login(SourceError::Vault(login_refused()), MINUTE)]
#[case::vault_lost_the_token(SourceError::Vault(VaultError::TokenEnded { file: "/t".into() }), MINUTE)]
#[case::vault_is_a_standby(SourceError::Vault(VaultError::Redirected), MINUTE)]
#[case::vault_is_sealed(SourceError::Vault(VaultError::Sealed), USUAL)]
#[case::vault_is_not_up(SourceError::Vault(VaultError::Busy), USUAL)]
#[case::vault_has_none(
    SourceError::Vault(VaultError::NotFound { mount: "secret".into(), path: "slack".into() }),
    Duration::ZERO
)]
#[case::no_secret(
    SourceError::NoSecret { namespace: "qa".into(), name: "slack".into() },
    Duration::ZERO
)]
fn a_refusal_is_bridged_for_a_moment(#[case] error: SourceError, #[case] grace: Duration) {
    assert_eq!(
        CredentialError::Source(error.clone()).grace(USUAL),
        grace,
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_bridged_is_withdrawn_then() {
    let looked_up = || {
        let mut fetched = value("one", None)?;
        fetched.recheck = Some(Recheck {
            due: Duration::from_secs(15),
            overdue: Duration::from_secs(30),
            grace: USUAL,
        });
        Ok(fetched)
    };
    let refused = || Err(CredentialError::Source(SourceError::Vault(denied())));
    let answers = std::iter::once(looked_up()).chain(std::iter::repeat_with(refused).take(100));
    let fake = Fake::open(answers);
    let credentials = Credentials::with_fetcher(clock(), Fetcher::Fake(fake));
    credentials.obtain(&any()).await.unwrap();
    let mut served = 0;
    while credentials.obtain(&any()).await.is_ok() {
        served += 1;
        advance(Duration::from_secs(1)).await;
        settle().await;
        assert!(served <= 60, "it serves on");
    }
    assert!(served >= 59, "it served for {served} s");
}
