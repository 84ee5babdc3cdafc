//! An operator's helper: real programs, correct and faulty.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use rstest::rstest;

use super::*;
use crate::HelperFault;

/// A program in a directory that lives as long as this does.
struct Helper {
    directory: tempfile::TempDir,
}

impl Helper {
    /// A shell script with this body.
    fn new(body: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let helper = Self { directory };
        helper.becomes(body);
        helper
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn becomes(&self, body: &str) {
        let at = self.directory.path().display();
        fs::write(self.file("helper"), format!("at='{at}'\n{body}\n")).unwrap();
    }

    /// Through its shell: a file that was just written cannot be executed while another test starts a
    /// program.
    fn credential(&self, timeout: Duration) -> Arc<Credential> {
        let script = self.file("helper").display().to_string();
        of_command(["/bin/sh", &script, "with an argument"], timeout)
    }
}

fn of_command<const N: usize>(command: [&str; N], timeout: Duration) -> Arc<Credential> {
    let command = command.map(str::to_owned).to_vec();
    let token = SecretSource::Exec { command, timeout };
    Arc::new(credential(Provider::Static { token }))
}

const PLENTY: Duration = Duration::from_secs(20);

async fn error_of(body: &str) -> String {
    let helper = Helper::new(body);
    let credentials = of_provider(clock());
    let obtained = credentials.obtain(&helper.credential(PLENTY)).await;
    obtained.unwrap_err().to_string()
}

fn fault(error: CredentialError) -> HelperFault {
    match error {
        CredentialError::Source(SourceError::Helper { fault, .. }) => fault,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_helper_is_told_what_is_wanted_and_little_else() {
    let helper = Helper::new(
        r#"cat >"$at/question"; env >"$at/environment"; pwd >"$at/where"; echo "$1" >"$at/arguments"
        echo '{"secret": "xoxb-one", "expiresAt": "2026-11-23T06:10:00Z"}'"#,
    );
    let credentials = of_provider(clock());
    let credential = helper.credential(PLENTY);
    let issued = credentials.obtain(&credential).await.unwrap();
    assert_eq!(issued.secret().expose(), "xoxb-one");
    assert_eq!(issued.expires_at(), Some(at(3600)));
    let said = |name| fs::read_to_string(helper.file(name)).unwrap();
    assert_eq!(
        said("question"),
        r#"{"credential":"qa/slack-bot","target":"slack","rejected":false}"#
    );
    assert_eq!(said("arguments"), "with an argument\n");
    assert_eq!(said("where"), "/\n");
    for line in said("environment").lines() {
        let name = line.split('=').next().unwrap();
        // The shell sets the last three itself.
        let known = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "PWD", "SHLVL", "_"];
        assert!(known.contains(&name), "{name} came through");
    }

    // An API rejected it: the helper is told, and returns another.
    helper.becomes(r#"cat >"$at/question"; echo '{"secret": "xoxb-two"}'"#);
    credentials.invalidate(&credential.name, issued.generation());
    let other = credentials.obtain(&credential).await.unwrap();
    assert_eq!(other.secret().expose(), "xoxb-two");
    assert!(said("question").contains(r#""rejected":true"#));
}

#[rstest]
#[case::no_json("echo xoxb-canary", "its output is not such an object")]
#[case::an_array(r#"echo '["xoxb-canary"]'"#, "its output is not such an object")]
#[case::another_key(
    r#"echo '{"secret": "xoxb-canary", "expires": "2026-11-23T06:10:00Z"}'"#,
    "its output is not such an object"
)]
#[case::nothing(":", "its output is not such an object")]
#[case::no_secret("echo '{}'", "its output has no `secret`")]
#[case::no_time(
    r#"echo '{"secret": "xoxb-canary", "expiresAt": "tomorrow"}'"#,
    "its `expiresAt` is not a time"
)]
#[case::over(
    r#"echo '{"secret": "xoxb-canary", "expiresAt": "2020-01-01T00:00:00Z"}'"#,
    "expired at 2020-01-01T00:00:00Z"
)]
#[case::two_lines(
    r#"printf %s '{"secret": "xoxb-canary\nxoxb-more"}'"#,
    "is not one line of visible ASCII"
)]
#[case::empty(r#"echo '{"secret": " "}'"#, "is empty")]
#[case::failed(
    "echo xoxb-canary >&2; exit 3",
    "failed (exit status: 3); run it by hand"
)]
#[case::failed_with_a_secret(
    r#"echo '{"secret": "xoxb-canary"}'; exit 1"#,
    "failed (exit status: 1)"
)]
#[case::said(
    r#"printf %s '{"error": "the safe\nis closed"}'; exit 1"#,
    "failed (exit status: 1): the safe is closed"
)]
#[case::said_too_much(
    r#"echo '{"error": "xoxb-000000000000-canary is wrong"}'"#,
    "failed (exit status: 0): "
)]
#[case::killed("kill -9 $$", "failed (signal: 9 (SIGKILL))")]
#[case::too_much("head -c 300000 /dev/zero | tr '\\0' x", "more than 256 KiB")]
#[tokio::test]
async fn what_a_helper_does_wrong_is_told_without_what_it_printed(
    #[case] body: &str,
    #[case] says: &str,
) {
    let error = error_of(body).await;
    assert!(error.contains(says), "{error}");
    assert!(!error.contains("canary"), "{error}");
}

#[tokio::test]
async fn a_helper_that_is_not_there_or_may_not_be_run_is_told() {
    let helper = Helper::new("");
    let path = helper.file("helper");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let credential = of_command([path.to_str().unwrap()], PLENTY);
    let denied = of_provider(clock()).obtain(&credential).await.unwrap_err();
    let expected = HelperFault::NotStarted(std::io::ErrorKind::PermissionDenied);
    assert_eq!(fault(denied), expected);
    fs::remove_file(&path).unwrap();
    let missing = of_provider(clock()).obtain(&credential).await.unwrap_err();
    let expected = HelperFault::NotStarted(std::io::ErrorKind::NotFound);
    assert_eq!(fault(missing), expected);
}

/// Waits until a process is gone; after a kill this can take a moment.
async fn gone(pid_file: &Path) {
    let pid = fs::read_to_string(pid_file).unwrap();
    let is_alive = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    let gone = async {
        while is_alive() {
            tokio::task::yield_now().await;
        }
    };
    let gone = tokio::time::timeout(PLENTY, gone).await;
    gone.unwrap_or_else(|_| panic!("{} lives", pid_file.display()));
}

#[tokio::test]
async fn a_helper_that_takes_too_long_is_killed_with_all_its_processes() {
    let helper = Helper::new(
        r#"sleep 1000 & echo "$!" >"$at/child"; echo "$$" >"$at/itself"; echo '{"secret"'; wait"#,
    );
    let limit = Duration::from_millis(500);
    let obtained = of_provider(clock()).obtain(&helper.credential(limit)).await;
    let slow = fault(obtained.unwrap_err());
    assert_eq!(slow, HelperFault::TooSlow(limit));
    gone(&helper.file("itself")).await;
    gone(&helper.file("child")).await;
}

#[tokio::test]
async fn a_process_that_a_helper_leaves_behind_does_not_hold_its_answer_up() {
    let helper =
        Helper::new(r#"sleep 1000 & echo "$!" >"$at/child"; echo '{"secret": "xoxb-one"}'"#);
    let issued = of_provider(clock())
        .obtain(&helper.credential(PLENTY))
        .await;
    assert_eq!(issued.unwrap().secret().expose(), "xoxb-one");
    gone(&helper.file("child")).await;
}

#[tokio::test]
async fn a_thousand_requests_run_it_once() {
    let helper =
        Helper::new(r#"echo run >>"$at/runs"; cat >"$at/question"; echo '{"secret": "xoxb-one"}'"#);
    let credentials = Arc::new(of_provider(clock()));
    let credential = helper.credential(PLENTY);
    let request = (0..1_000).map(|_| credentials.obtain(&credential));
    for obtained in futures_util::future::join_all(request).await {
        assert_eq!(obtained.unwrap().generation(), 1);
    }
    assert_eq!(fs::read_to_string(helper.file("runs")).unwrap(), "run\n");
}

#[tokio::test]
async fn what_fails_is_bridged_and_what_is_withdrawn_is_not() {
    let helper = Helper::new(r#"echo '{"secret": "xoxb-one"}'"#);
    let credentials = of_provider(clock());
    let credential = helper.credential(PLENTY);
    let first = credentials.obtain(&credential).await.unwrap();
    assert!(!first.is_stale());

    helper.becomes("exit 1");
    overdue().await;
    let bridged = credentials.obtain(&credential).await.unwrap();
    assert_eq!(bridged.secret().expose(), "xoxb-one");
    assert!(bridged.is_stale());

    helper.becomes(r#"echo '{"secret": "xoxb-one"}'"#);
    overdue().await;
    let again = credentials.obtain(&credential).await.unwrap();
    assert!(!again.is_stale());
    assert_eq!(again.generation(), 1);

    helper.becomes(r#"echo '{"withdrawn": true, "error": "the job was retired"}'"#);
    overdue().await;
    let withdrawn = credentials.obtain(&credential).await.unwrap_err();
    let why = Some("the job was retired".into());
    assert_eq!(fault(withdrawn), HelperFault::Withdrawn(why));
}

/// Advances the time after which the helper is asked before its value is used. The clock then runs: a
/// process takes real time.
async fn overdue() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(121)).await;
    tokio::time::resume();
}
