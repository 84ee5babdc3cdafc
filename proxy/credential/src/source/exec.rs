//! An operator's helper: a program that prints a secret.
//!
//! It gets one JSON object on its standard input and prints one on its standard output:
//!
//! ```text
//! {"credential": "qa/slack-bot", "target": "slack", "rejected": false}
//! {"secret": "xoxb-...", "expiresAt": "2026-11-23T05:10:00Z"}
//! ```
//!
//! It runs without a shell, with a minimal environment, in a process group of its own that does not
//! outlive its deadline. Its standard error is discarded.

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

use super::{HelperFault, Material, Recheck, SourceError, SourceRequest};

/// The most that a helper may print, in bytes: a secret of 64 KiB with every byte escaped, and the rest
/// of the object.
const LARGEST_ANSWER: usize = 256 * 1024;

/// The variables that a helper inherits, to find programs, time zones and its home.
const ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// The input of a helper.
#[derive(Serialize)]
struct HelperInput {
    /// The credential, as `namespace/name`.
    credential: String,
    /// The target.
    target: String,
    /// Whether an API has rejected the helper's last value.
    rejected: bool,
}

/// The output of a helper. Unknown keys are refused, because a misspelt `expiresAt` would go unnoticed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HelperOutput {
    secret: Option<Secret>,
    expires_at: Option<String>,
    error: Option<String>,
    #[serde(default)]
    withdrawn: bool,
}

/// Runs the helper and parses its output.
pub(super) async fn ask(
    command: &[String],
    limit: Duration,
    wanted: SourceRequest<'_>,
) -> Result<Material, SourceError> {
    let (program, arguments) = command
        .split_first()
        .map_or(("", command), |(program, rest)| (program.as_str(), rest));
    let helper = |fault| SourceError::Helper {
        program: program.into(),
        fault,
    };
    let question = HelperInput {
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
        // A value with an expiry is renewed ahead of it.
        recheck: expires_at.is_none().then_some(Recheck::HELPER),
        dynamic_secret: None,
    })
}

/// How a helper exited, and its output.
struct HelperExit {
    status: ExitStatus,
    text: Zeroizing<Vec<u8>>,
}

async fn run(
    program: &str,
    arguments: &[String],
    limit: Duration,
    question: &HelperInput,
) -> Result<HelperExit, HelperFault> {
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
            // It was killed, so it exits; reaped so that no zombie is left.
            drop(child.wait().await);
            Err(HelperFault::TooSlow(limit))
        }
    }
}

/// Writes the input and reads until the helper has exited and its output is closed.
async fn converse(
    child: &mut Child,
    group: &Group,
    question: &HelperInput,
) -> Result<HelperExit, HelperFault> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(HelperFault::BadOutput(
            "it has no standard input and output",
        ));
    };
    let question = serde_json::to_vec(question)
        .map_err(|_| HelperFault::BadOutput("its input cannot be written"))?;
    let asking = async move {
        // A helper need not read its input.
        drop(stdin.write_all(&question).await);
        drop(stdin);
    };
    // Allocated at once: a growing buffer leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(LARGEST_ANSWER + 64));
    let mut reading = stdout.take(LARGEST_ANSWER as u64 + 1);
    let ending = async {
        let ended = child.wait().await;
        // Processes that it left behind keep its output open.
        group.kill();
        ended
    };
    let (read, ended, ()) = tokio::join!(reading.read_to_end(&mut text), ending, asking);
    read.map_err(|_| HelperFault::BadOutput("its output cannot be read"))?;
    let status = ended.map_err(|error| HelperFault::NotStarted(error.kind()))?;
    if text.len() > LARGEST_ANSWER {
        return Err(HelperFault::BadOutput("it printed more than 256 KiB"));
    }
    Ok(HelperExit { status, text })
}

/// The process group of a helper, which does not outlive it.
struct Group(Option<Pid>);

impl Group {
    fn kill(&self) {
        if let Some(leader) = self.0 {
            // An error means that all have exited.
            let _all_ended = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl HelperExit {
    /// The secret and its expiry.
    fn take(&self) -> Result<(Secret, Option<Timestamp>), HelperFault> {
        let answer = self.parse();
        let said = |words: &Option<String>| words.as_deref().map(words_of);
        match answer {
            Some(answer) if answer.withdrawn => Err(HelperFault::Withdrawn(said(&answer.error))),
            Some(answer) if answer.error.is_some() || !self.status.success() => {
                Err(self.failed(said(&answer.error)))
            }
            None if !self.status.success() => Err(self.failed(None)),
            None => Err(HelperFault::BadOutput("its output is not such an object")),
            Some(answer) => {
                let secret = answer.secret;
                let secret = secret.ok_or(HelperFault::BadOutput("its output has no `secret`"))?;
                let end = answer.expires_at.as_deref().map(str::parse).transpose();
                let end =
                    end.map_err(|_| HelperFault::BadOutput("its `expiresAt` is not a time"))?;
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

    /// The cause is not shown: the parser's error contains parts of the output.
    fn parse(&self) -> Option<HelperOutput> {
        let is_object = self.text.trim_ascii_start().first() == Some(&b'{');
        is_object
            .then(|| serde_json::from_slice(&self.text).ok())
            .flatten()
    }
}

/// A helper's own text, made fit to be shown.
fn words_of(text: &str) -> Arc<str> {
    redact(&quoted(text)).into()
}
