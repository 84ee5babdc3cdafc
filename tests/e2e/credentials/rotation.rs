//! Slack's token rotation through a real gateway: one refresh for however many requests, nothing
//! lost over a restart, and each mistake of the operator's told with its remedy.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

use anyhow::Context as _;
use countersign_core::clock::Clock;
use countersign_tests::{
    client::Answer,
    environment::{DASHBOARD, DASHBOARD_FILE, Environment, Options},
    fake::{Moment, Protocol, Slack},
    resources::{Resource, secret_file},
};
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Builder, ExampleApi, TestBed, auth_test, soon, until};

/// The seed of a token that rotates: its key, and the file of its secret.
pub(super) type Seed = (&'static str, &'static str);

pub(super) const REFRESH_TOKEN: Seed = ("refreshToken", "slack-refresh-token");
const LONG_LIVED: Seed = ("longLivedToken", "slack-bot");

/// Makes the dashboard's bot token one that rotates.
pub(super) fn rotate_bot_token(env: &Environment, (key, file): Seed) -> io::Result<()> {
    let rotation = json!({
        "clientId": env.slack.rotating_app().client_id,
        "clientSecret": secret_file("slack-client-secret"),
        key: secret_file(file),
    });
    env.edit_policy(DASHBOARD_FILE, |policy| {
        *policy.credential("slack-bot") =
            Resource::credential("slack-bot", "slack").with("slackRotation", rotation);
    })
}

/// A test bed in which the dashboard's bot token rotates.
pub(super) fn rotating<'c>(seed: Seed) -> Builder<'c, ExampleApi> {
    TestBed::builder().prepare(move |env, _| Ok(rotate_bot_token(env, seed)?))
}

/// An environment in which the dashboard's bot token rotates.
pub(super) async fn rotating_environment(clock: Clock) -> anyhow::Result<Environment> {
    let options = Options {
        clock,
        ..Options::default()
    };
    let env = Environment::with(options).await?;
    rotate_bot_token(&env, REFRESH_TOKEN)?;
    Ok(env)
}

/// A Monday morning; the tests move time on.
fn monday() -> anyhow::Result<Clock> {
    Ok(Clock::manual("2026-11-23T05:10:00Z".parse()?))
}

/// A test bed whose token rotates, by a clock that the test moves.
struct Rotating(TestBed);

impl Rotating {
    async fn start(seed: Seed) -> anyhow::Result<Self> {
        Ok(Self(rotating(seed).clock(&monday()?).start().await?))
    }

    /// Another gateway with the same files, in the place of this one.
    async fn restarted(self) -> anyhow::Result<Self> {
        self.0.gateway.stop().await?;
        Ok(Self(TestBed::builder().within(self.0.env).start().await?))
    }

    fn slack(&self) -> &Slack {
        &self.0.env.slack
    }

    /// Moves time, and takes a new token for the pod.
    fn pass(&mut self, hours: i64, minutes: i64) {
        let by = SignedDuration::from_hours(hours) + SignedDuration::from_mins(minutes);
        let env = &self.0.env;
        env.clock.pass(env.clock.now() + by);
        self.0.token = env.token("qa", DASHBOARD);
    }

    async fn call(&self) -> anyhow::Result<Answer> {
        Ok(soon("an answer", self.0.client().send(auth_test())).await??)
    }

    /// Calls until Slack's answer is good: what a gateway tells of a failure lasts a second.
    async fn call_until_good(&self) -> anyhow::Result<()> {
        until("a good answer", async || {
            let answer = self.call().await;
            answer.is_ok_and(|answer| answer.json()["ok"] == true)
        })
        .await
    }

    /// The access token that Slack saw last.
    fn shown(&self) -> String {
        let last = self.slack().received().at("/api/auth.test").pop();
        last.and_then(|request| request.header("authorization"))
            .unwrap_or_default()
    }

    fn state_file(&self) -> PathBuf {
        self.0.env.directory().join("state/qa.slack-bot.state")
    }
}

/// `sessions` clients that make `each` requests at once over HTTP/2; gives the answers.
async fn at_once(bed: &Rotating, sessions: usize, each: usize) -> anyhow::Result<Vec<Value>> {
    let mut open = Vec::new();
    for _ in 0..sessions {
        open.push(
            bed.0
                .client()
                .over(Protocol::Http2)
                .open("slack.com:443")
                .await?,
        );
    }
    let mut running = JoinSet::new();
    for session in open {
        for _ in 0..each {
            let mut stream = session.another().context("HTTP/2 has many streams")?;
            running.spawn(async move { stream.send(auth_test()).await });
        }
    }
    let mut answers = Vec::new();
    while let Some(done) = soon("an answer", running.join_next()).await? {
        answers.push(done??.json());
    }
    Ok(answers)
}

#[tokio::test]
async fn a_token_rotates_and_survives_a_restart() -> anyhow::Result<()> {
    let mut bed = Rotating::start(REFRESH_TOKEN).await?;
    assert_eq!(bed.call().await?.json()["ok"], true);
    let first = bed.shown();
    assert!(first.starts_with("Bearer xoxe.xoxb-"), "{first:.16}");
    assert_eq!(bed.call().await?.json()["ok"], true);
    assert_eq!(bed.slack().refreshes(), 1);
    let mode = fs::metadata(bed.state_file())?.permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    let mut bed = {
        bed.pass(1, 0);
        bed.restarted().await?
    };
    assert_eq!(bed.call().await?.json()["ok"], true);
    assert_eq!((bed.shown(), bed.slack().refreshes()), (first.clone(), 1));

    // Nobody asked until it was over.
    bed.pass(12, 0);
    assert_eq!(bed.call().await?.json()["ok"], true);
    assert_ne!(bed.shown(), first);
    assert_eq!(bed.slack().refreshes(), 2);
    Ok(())
}

#[tokio::test]
async fn it_is_refreshed_two_hours_ahead_while_the_old_one_serves() -> anyhow::Result<()> {
    let mut bed = Rotating::start(REFRESH_TOKEN).await?;
    bed.call().await?;
    let first = bed.shown();
    bed.pass(9, 45);
    assert_eq!(bed.call().await?.json()["ok"], true);
    assert_eq!((bed.shown(), bed.slack().refreshes()), (first.clone(), 1));
    let hold = bed.slack().hold_refresh(Moment::BeforeActing);
    bed.pass(0, 20);
    // The refresh is under way, and nobody waits for it.
    assert_eq!(bed.call().await?.json()["ok"], true);
    soon("the refresh", hold.reached()).await?;
    assert_eq!(bed.call().await?.json()["ok"], true);
    assert_eq!((bed.shown(), bed.slack().refreshes()), (first.clone(), 1));
    hold.release();
    let renewed = async {
        while bed.shown() == first {
            bed.call().await?;
        }
        anyhow::Ok(())
    };
    soon("a renewed token", renewed).await??;
    assert_eq!(bed.slack().refreshes(), 2);
    Ok(())
}

#[tokio::test]
async fn a_thousand_first_requests_make_one_refresh() -> anyhow::Result<()> {
    let bed = Rotating::start(REFRESH_TOKEN).await?;
    let hold = bed.slack().hold_refresh(Moment::BeforeActing);
    let asking = at_once(&bed, 20, 50);
    let releasing = async {
        hold.reached().await;
        hold.release();
    };
    let (answers, ()) = tokio::join!(asking, releasing);
    let answers = answers?;
    assert_eq!(answers.len(), 1_000);
    assert!(
        answers.iter().all(|answer| answer["ok"] == true),
        "{answers:?}"
    );
    assert_eq!(bed.slack().refreshes(), 1);
    Ok(())
}

#[tokio::test]
async fn fifty_requests_at_the_end_of_a_token_make_one_refresh() -> anyhow::Result<()> {
    let mut bed = Rotating::start(REFRESH_TOKEN).await?;
    bed.call().await?;
    bed.pass(12, 0);
    let answers = at_once(&bed, 5, 10).await?;
    assert_eq!(answers.len(), 50);
    assert!(
        answers.iter().all(|answer| answer["ok"] == true),
        "{answers:?}"
    );
    assert_eq!(bed.slack().refreshes(), 2);
    Ok(())
}

#[tokio::test]
async fn a_long_lived_token_becomes_a_rotating_one() -> anyhow::Result<()> {
    let mut bed = Rotating::start(LONG_LIVED).await?;
    assert_eq!(bed.call().await?.json()["ok"], true);
    let slack = &bed.slack();
    assert_eq!(slack.received().at("/api/oauth.v2.exchange").len(), 1);
    assert_eq!(slack.refreshes(), 0);
    bed.pass(12, 0);
    assert_eq!(bed.call().await?.json()["ok"], true);
    let slack = &bed.slack();
    assert_eq!(slack.received().at("/api/oauth.v2.exchange").len(), 1);
    assert_eq!(slack.refreshes(), 1);
    Ok(())
}

#[tokio::test]
async fn a_refresh_whose_answer_was_lost_is_made_again_at_once() -> anyhow::Result<()> {
    let bed = Rotating::start(REFRESH_TOKEN).await?;
    bed.slack().fail("oauth.v2.access", 1, "internal_error");
    assert_eq!(bed.call().await?.json()["ok"], true);
    assert_eq!(bed.slack().received().at("/api/oauth.v2.access").len(), 2);
    Ok(())
}

#[tokio::test]
async fn while_slack_refuses_to_refresh_a_living_token_serves() -> anyhow::Result<()> {
    let mut bed = Rotating::start(REFRESH_TOKEN).await?;
    bed.call().await?;
    bed.pass(10, 30);
    bed.slack()
        .fail("oauth.v2.access", 2, "service_unavailable");
    for _ in 0..5 {
        assert_eq!(bed.call().await?.json()["ok"], true);
    }
    Ok(())
}

#[tokio::test]
async fn a_reinstalled_app_is_taken_over_without_a_restart() -> anyhow::Result<()> {
    let mut bed = Rotating::start(REFRESH_TOKEN).await?;
    bed.call().await?;
    let seed = bed.slack().reinstall();
    bed.pass(12, 0);
    let refused = bed.call().await?;
    assert_eq!(
        refused.json()["error"],
        "credential_dead",
        "{}",
        refused.text()
    );
    bed.0.env.write_secret("slack-refresh-token", &seed)?;
    bed.call_until_good().await
}

/// What an operator gets wrong.
#[derive(Debug, Clone, Copy)]
enum Mistake {
    WrongSecret,
    SpentSeed,
    NoSeed,
    LooseDirectory,
    CorruptState,
    ForgottenKey,
}

#[rstest]
#[case::wrong_secret(Mistake::WrongSecret, "credential_refused", "Basic Information", 1)]
#[case::spent_seed(Mistake::SpentSeed, "credential_dead", "Reinstall the app", 1)]
#[case::no_seed(Mistake::NoSeed, "credential_missing", "slack-refresh-token", 0)]
#[case::loose_directory(
    Mistake::LooseDirectory,
    "credential_state_unusable",
    "make it 0700",
    0
)]
#[case::corrupt_state(
    Mistake::CorruptState,
    "credential_state_unusable",
    "was not changed",
    0
)]
#[case::forgotten_key(Mistake::ForgottenKey, "credential_state_unusable", "keyFile", 0)]
#[tokio::test]
async fn each_mistake_is_told_with_its_remedy_and_does_not_hammer(
    #[case] mistake: Mistake,
    #[case] reason: &str,
    #[case] detail: &str,
    #[case] calls: usize,
) -> anyhow::Result<()> {
    let env = rotating_environment(monday()?).await?;
    let state = env.directory().join("state");
    let put = |text: &str| -> anyhow::Result<()> {
        fs::create_dir(&state)?;
        fs::set_permissions(&state, Permissions::from_mode(0o700))?;
        let file = state.join("qa.slack-bot.state");
        fs::write(&file, text)?;
        Ok(fs::set_permissions(file, Permissions::from_mode(0o600))?)
    };
    match mistake {
        Mistake::WrongSecret => env.write_secret("slack-client-secret", "wrong")?,
        Mistake::SpentSeed => {
            env.slack.reinstall();
        }
        Mistake::NoSeed => fs::remove_file(env.secret_directory().join("slack-refresh-token"))?,
        Mistake::LooseDirectory => {
            put("{}\n")?;
            fs::set_permissions(&state, Permissions::from_mode(0o755))?;
        }
        Mistake::CorruptState => put("{\"half\":")?,
        Mistake::ForgottenKey => put(concat!(
            r#"{"kind":"countersign-state","format":1,"credential":"qa/slack-bot","#,
            r#""sealed":{"key":"00","nonce":"AAAAAAAAAAAAAAAA"}}"#,
            "\nsealed"
        ))?,
    }
    let mut bed = TestBed::builder().within(env).start().await?;
    for _ in 0..5 {
        let answer = bed.client().send(auth_test()).await?;
        assert_eq!(answer.json()["error"], reason, "{}", answer.text());
    }
    let record = bed.record().await?;
    let told = record["detail"].as_str().unwrap_or_default();
    assert!(told.contains(detail), "{told}");
    let asked = bed.env.slack.received().at("/api/oauth.v2.access").len();
    assert_eq!(asked, calls);
    Ok(())
}
