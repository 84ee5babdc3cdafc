//! Slack's token rotation through a real gateway: one refresh for however many requests, nothing
//! lost over a restart, and each mistake of the operator's told with its remedy.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use countersign_core::clock::Clock;
use countersign_tests::{
    client::{Answer, Client},
    fake::{Moment, Protocol},
    gateway::Gateway,
    world::{Options, World},
};
use http::{Request, header};
use http_body_util::Full;
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::Value;
use tokio::{task::JoinSet, time::timeout};

use crate::harness::support::DUMMY_BOT;

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where Slack's app rotates.
struct Rotating {
    world: World,
    gateway: Gateway,
    token: String,
}

/// A world whose bot token rotates, from a seed of this kind.
async fn world(seed: &str) -> anyhow::Result<World> {
    let clock = Clock::manual("2026-11-23T05:10:00Z".parse()?);
    let options = Options {
        clock,
        ..Options::default()
    };
    world_with(options, seed).await
}

pub(crate) async fn world_with(options: Options, seed: &str) -> anyhow::Result<World> {
    let world = World::with(options).await?;
    let path = world.policy_directory().join("nightly-dashboard.yaml");
    let secrets = world.secret_directory().display().to_string();
    let written = fs::read_to_string(path)?;
    let fixed = format!("  static:\n    token: {{ file: {secrets}/slack-bot }}\n");
    anyhow::ensure!(written.contains(&fixed), "the world's policy has changed");
    let rotating = format!(
        "  slackRotation:\n    clientId: \"{}\"\n    clientSecret: {{ file: {secrets}/slack-client-secret }}\n    {seed}\n",
        world.slack.rotating_app().client_id,
    );
    let rotating = rotating.replace("{secrets}", &secrets);
    world.write_policy(
        "nightly-dashboard.yaml",
        &written.replace(&fixed, &rotating),
    )?;
    Ok(world)
}

pub(crate) const REFRESH_TOKEN: &str = "refreshToken: { file: {secrets}/slack-refresh-token }";
const LONG_LIVED: &str = "longLivedToken: { file: {secrets}/slack-bot }";

impl Rotating {
    async fn start(seed: &str) -> anyhow::Result<Self> {
        Self::over(world(seed).await?).await
    }

    async fn over(world: World) -> anyhow::Result<Self> {
        let gateway = Gateway::start(&world).await?;
        let token = world.token("qa", "nightly-dashboard");
        Ok(Self {
            world,
            gateway,
            token,
        })
    }

    /// Another gateway with the same files, in the place of this one.
    async fn restarted(self) -> anyhow::Result<Self> {
        self.gateway.stop().await?;
        Self::over(self.world).await
    }

    fn client(&self) -> Client {
        self.gateway.client(&self.world).bearer(&self.token)
    }

    /// Moves time, and takes a new token for the pod.
    fn pass(&mut self, hours: i64, minutes: i64) {
        let by = SignedDuration::from_hours(hours) + SignedDuration::from_mins(minutes);
        self.world.clock.pass(self.world.clock.now() + by);
        self.token = self.world.token("qa", "nightly-dashboard");
    }

    async fn call(&self) -> anyhow::Result<Answer> {
        Ok(timeout(PATIENCE, self.client().send(auth_test())).await??)
    }

    /// Calls until Slack's answer is good: what a gateway tells of a failure lasts a second.
    async fn call_until_good(&self) -> anyhow::Result<()> {
        let good = async {
            while self.call().await?.json()["ok"] != true {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, good).await?
    }

    /// The access token that Slack saw last.
    fn shown(&self) -> String {
        let last = self.world.slack.received().at("/api/auth.test").pop();
        last.and_then(|request| request.header("authorization"))
            .unwrap_or_default()
    }

    fn state_file(&self) -> PathBuf {
        self.world.directory().join("state/qa.slack-bot.state")
    }
}

fn auth_test() -> Request<Full<Bytes>> {
    Request::post("https://slack.com/api/auth.test")
        .header(header::AUTHORIZATION, format!("Bearer {DUMMY_BOT}"))
        .body(Full::default())
        .expect("a request")
}

/// `sessions` clients that make `each` requests at once over HTTP/2; gives the answers.
async fn at_once(stage: &Rotating, sessions: usize, each: usize) -> anyhow::Result<Vec<Value>> {
    let mut open = Vec::new();
    for _ in 0..sessions {
        open.push(
            stage
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
    while let Some(done) = timeout(PATIENCE, running.join_next()).await? {
        answers.push(done??.json());
    }
    Ok(answers)
}

#[tokio::test]
async fn a_token_rotates_and_survives_a_restart() -> anyhow::Result<()> {
    let mut stage = Rotating::start(REFRESH_TOKEN).await?;
    assert_eq!(stage.call().await?.json()["ok"], true);
    let first = stage.shown();
    assert!(first.starts_with("Bearer xoxe.xoxb-"), "{first:.16}");
    assert_eq!(stage.call().await?.json()["ok"], true);
    assert_eq!(stage.world.slack.refreshes(), 1);
    let mode = fs::metadata(stage.state_file())?.permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    let mut stage = {
        stage.pass(1, 0);
        stage.restarted().await?
    };
    assert_eq!(stage.call().await?.json()["ok"], true);
    assert_eq!(
        (stage.shown(), stage.world.slack.refreshes()),
        (first.clone(), 1)
    );

    // Nobody asked until it was over.
    stage.pass(12, 0);
    assert_eq!(stage.call().await?.json()["ok"], true);
    assert_ne!(stage.shown(), first);
    assert_eq!(stage.world.slack.refreshes(), 2);
    Ok(())
}

#[tokio::test]
async fn it_is_refreshed_two_hours_ahead_while_the_old_one_serves() -> anyhow::Result<()> {
    let mut stage = Rotating::start(REFRESH_TOKEN).await?;
    stage.call().await?;
    let first = stage.shown();
    stage.pass(9, 45);
    assert_eq!(stage.call().await?.json()["ok"], true);
    assert_eq!(
        (stage.shown(), stage.world.slack.refreshes()),
        (first.clone(), 1)
    );
    let hold = stage.world.slack.hold_refresh(Moment::BeforeActing);
    stage.pass(0, 20);
    // The refresh is under way, and nobody waits for it.
    assert_eq!(stage.call().await?.json()["ok"], true);
    timeout(PATIENCE, hold.reached()).await?;
    assert_eq!(stage.call().await?.json()["ok"], true);
    assert_eq!(
        (stage.shown(), stage.world.slack.refreshes()),
        (first.clone(), 1)
    );
    hold.release();
    let renewed = async {
        while stage.shown() == first {
            stage.call().await?;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, renewed).await??;
    assert_eq!(stage.world.slack.refreshes(), 2);
    Ok(())
}

#[tokio::test]
async fn a_thousand_first_requests_make_one_refresh() -> anyhow::Result<()> {
    let stage = Rotating::start(REFRESH_TOKEN).await?;
    let hold = stage.world.slack.hold_refresh(Moment::BeforeActing);
    let asking = at_once(&stage, 20, 50);
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
    assert_eq!(stage.world.slack.refreshes(), 1);
    Ok(())
}

#[tokio::test]
async fn fifty_requests_at_the_end_of_a_token_make_one_refresh() -> anyhow::Result<()> {
    let mut stage = Rotating::start(REFRESH_TOKEN).await?;
    stage.call().await?;
    stage.pass(12, 0);
    let answers = at_once(&stage, 5, 10).await?;
    assert_eq!(answers.len(), 50);
    assert!(
        answers.iter().all(|answer| answer["ok"] == true),
        "{answers:?}"
    );
    assert_eq!(stage.world.slack.refreshes(), 2);
    Ok(())
}

#[tokio::test]
async fn a_long_lived_token_becomes_a_rotating_one() -> anyhow::Result<()> {
    let mut stage = Rotating::start(LONG_LIVED).await?;
    assert_eq!(stage.call().await?.json()["ok"], true);
    let slack = &stage.world.slack;
    assert_eq!(slack.received().at("/api/oauth.v2.exchange").len(), 1);
    assert_eq!(slack.refreshes(), 0);
    stage.pass(12, 0);
    assert_eq!(stage.call().await?.json()["ok"], true);
    let slack = &stage.world.slack;
    assert_eq!(slack.received().at("/api/oauth.v2.exchange").len(), 1);
    assert_eq!(slack.refreshes(), 1);
    Ok(())
}

#[tokio::test]
async fn a_refresh_whose_answer_was_lost_is_made_again_at_once() -> anyhow::Result<()> {
    let stage = Rotating::start(REFRESH_TOKEN).await?;
    stage
        .world
        .slack
        .fail("oauth.v2.access", 1, "internal_error");
    assert_eq!(stage.call().await?.json()["ok"], true);
    assert_eq!(
        stage
            .world
            .slack
            .received()
            .at("/api/oauth.v2.access")
            .len(),
        2
    );
    Ok(())
}

#[tokio::test]
async fn while_slack_refuses_to_refresh_a_living_token_serves() -> anyhow::Result<()> {
    let mut stage = Rotating::start(REFRESH_TOKEN).await?;
    stage.call().await?;
    stage.pass(10, 30);
    stage
        .world
        .slack
        .fail("oauth.v2.access", 2, "service_unavailable");
    for _ in 0..5 {
        assert_eq!(stage.call().await?.json()["ok"], true);
    }
    Ok(())
}

#[tokio::test]
async fn a_reinstalled_app_is_taken_over_without_a_restart() -> anyhow::Result<()> {
    let mut stage = Rotating::start(REFRESH_TOKEN).await?;
    stage.call().await?;
    let seed = stage.world.slack.reinstall();
    stage.pass(12, 0);
    let refused = stage.call().await?;
    assert_eq!(
        refused.json()["error"],
        "credential_dead",
        "{}",
        refused.text()
    );
    stage.world.write_secret("slack-refresh-token", &seed)?;
    stage.call_until_good().await
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
    let world = world(REFRESH_TOKEN).await?;
    let state = world.directory().join("state");
    let put = |text: &str| -> anyhow::Result<()> {
        fs::create_dir(&state)?;
        fs::set_permissions(&state, Permissions::from_mode(0o700))?;
        let file = state.join("qa.slack-bot.state");
        fs::write(&file, text)?;
        Ok(fs::set_permissions(file, Permissions::from_mode(0o600))?)
    };
    match mistake {
        Mistake::WrongSecret => world.write_secret("slack-client-secret", "wrong")?,
        Mistake::SpentSeed => {
            world.slack.reinstall();
        }
        Mistake::NoSeed => fs::remove_file(world.secret_directory().join("slack-refresh-token"))?,
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
    let mut stage = Rotating::over(world).await?;
    for _ in 0..5 {
        let answer = stage.call().await?;
        assert_eq!(answer.json()["error"], reason, "{}", answer.text());
    }
    let record = timeout(PATIENCE, stage.gateway.decisions().next()).await?;
    let told = record["detail"].as_str().unwrap_or_default();
    assert!(told.contains(detail), "{told}");
    let asked = stage
        .world
        .slack
        .received()
        .at("/api/oauth.v2.access")
        .len();
    assert_eq!(asked, calls);
    Ok(())
}
