//! An operator's helper: a program that prints a secret.
//!
//! It gets one JSON object on its standard input and prints one on its standard output:
//!
//! ```text
//! {"credential": "qa/slack-bot", "target": "slack", "rejected": false}
//! {"secret": "xoxb-...", "expiresAt": "2026-11-23T05:10:00Z"}
//! ```
//!
//! It runs without a shell, with next to nothing in its environment, in a process group of its own
//! that does not outlive its deadline. What it writes to its standard error goes nowhere.

use std::{
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use countersign_control_plane::quoted;
use countersign_core::{reaper, redact::redact, secret::Secret};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    time::timeout,
};
use zeroize::Zeroizing;

use super::{HelperFault, Material, Recheck, SourceError, Wanted};

/// The most that a helper may print, in bytes: a secret of 64 KiB with every byte escaped, and
/// what goes around it.
const LARGEST_ANSWER: usize = 256 * 1024;

/// What a helper has of our environment, so that it finds programs, zones and its home.
const ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// What a helper is told.
#[derive(Serialize)]
struct Question {
    /// For which credential, as `namespace/name`.
    credential: String,
    /// For which target.
    target: String,
    /// Whether an API has rejected what the helper gave last.
    rejected: bool,
}

/// What a helper prints. Left-over keys are refused: a misspelt `expiresAt` would go unseen.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Answer {
    secret: Option<Secret>,
    expires_at: Option<String>,
    error: Option<String>,
    #[serde(default)]
    withdrawn: bool,
}

/// Runs the helper and takes what it prints.
pub(super) async fn ask(
    command: &[String],
    limit: Duration,
    wanted: Wanted<'_>,
) -> Result<Material, SourceError> {
    let (program, arguments) = command
        .split_first()
        .map_or(("", command), |(program, rest)| (program.as_str(), rest));
    let helper = |fault| SourceError::Helper {
        program: program.into(),
        fault,
    };
    let question = Question {
        credential: wanted.credential.name.to_string(),
        target: wanted.credential.target.to_string(),
        rejected: wanted.rejected,
    };
    let printed = run(program, arguments, limit, &question).await;
    let taken = printed.and_then(|printed| printed.take());
    let (secret, expires_at) = taken.map_err(helper)?;
    let secret = wanted.form.of(secret.expose().as_bytes(), || {
        format!("the secret that the helper {program} printed")
    })?;
    Ok(Material {
        secret,
        expires_at,
        // What has an end is asked for again ahead of it.
        recheck: expires_at.is_none().then_some(Recheck::HELPER),
        made: None,
    })
}

/// How a helper ended, and what it printed.
struct Printed {
    status: ExitStatus,
    text: Zeroizing<Vec<u8>>,
}

async fn run(
    program: &str,
    arguments: &[String],
    limit: Duration,
    question: &Question,
) -> Result<Printed, HelperFault> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(
            ENVIRONMENT
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let started = reaper::spawn(&mut command);
    let (mut child, _awaited) = started.map_err(|error| HelperFault::NotStarted(error.kind()))?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let ended = timeout(limit, converse(&mut child, &group, question)).await;
    match ended {
        Ok(printed) => printed,
        Err(_elapsed) => {
            group.kill();
            // Killed, it ends; so that none is left behind.
            drop(child.wait().await);
            Err(HelperFault::TooSlow(limit))
        }
    }
}

/// Asks the question and reads until the helper has ended and nobody can print any more.
async fn converse(
    child: &mut Child,
    group: &Group,
    question: &Question,
) -> Result<Printed, HelperFault> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(HelperFault::Answer("it has no standard input and output"));
    };
    let question = serde_json::to_vec(question)
        .map_err(|_| HelperFault::Answer("its question cannot be written"))?;
    let asking = async move {
        // One that does not read it needs no question.
        drop(stdin.write_all(&question).await);
        drop(stdin);
    };
    // Room for everything at once: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(LARGEST_ANSWER + 64));
    let mut reading = stdout.take(LARGEST_ANSWER as u64 + 1);
    let ending = async {
        let ended = child.wait().await;
        // Those whom it left behind hold its output open.
        group.kill();
        ended
    };
    let (read, ended, ()) = tokio::join!(reading.read_to_end(&mut text), ending, asking);
    read.map_err(|_| HelperFault::Answer("its output cannot be read"))?;
    let status = ended.map_err(|error| HelperFault::NotStarted(error.kind()))?;
    if text.len() > LARGEST_ANSWER {
        return Err(HelperFault::Answer("it printed more than 256 KiB"));
    }
    Ok(Printed { status, text })
}

/// The processes of a helper, which do not outlive it.
struct Group(Option<Pid>);

impl Group {
    fn kill(&self) {
        if let Some(leader) = self.0 {
            // An error is that all have ended.
            let _all_ended = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Printed {
    /// The secret and its end.
    fn take(&self) -> Result<(Secret, Option<Timestamp>), HelperFault> {
        let answer = self.parse();
        let said = |words: &Option<String>| words.as_deref().map(words_of);
        match answer {
            Some(answer) if answer.withdrawn => Err(HelperFault::Withdrawn(said(&answer.error))),
            Some(answer) if answer.error.is_some() || !self.status.success() => {
                Err(self.failed(said(&answer.error)))
            }
            None if !self.status.success() => Err(self.failed(None)),
            None => Err(HelperFault::Answer("what it printed is no such object")),
            Some(answer) => {
                let secret = answer.secret;
                let secret = secret.ok_or(HelperFault::Answer("it printed no `secret`"))?;
                let end = answer.expires_at.as_deref().map(str::parse).transpose();
                let end = end.map_err(|_| HelperFault::Answer("its `expiresAt` is no time"))?;
                Ok((secret, end))
            }
        }
    }

    fn failed(&self, said: Option<Arc<str>>) -> HelperFault {
        HelperFault::Failed {
            status: self.status.to_string().into(),
            said,
        }
    }

    /// Why it is none is not told: the parser's error shows parts of it.
    fn parse(&self) -> Option<Answer> {
        let is_object = self.text.trim_ascii_start().first() == Some(&b'{');
        is_object
            .then(|| serde_json::from_slice(&self.text).ok())
            .flatten()
    }
}

/// A helper's own words, fit to be told.
fn words_of(text: &str) -> Arc<str> {
    redact(&quoted(text)).into()
}
