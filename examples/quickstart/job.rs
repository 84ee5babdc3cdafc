//! The nightly job: what it asks of Qase, what it posts to Slack, in order.

use countersign_tests::client::Answer;
use http::Method;
use serde_json::{Value, json};

/// Which API a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    /// Qase.
    Qase,
    /// Slack.
    Slack,
}

/// What policy should say to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It is permitted.
    Permitted,
    /// It is refused for this reason.
    Refused(&'static str),
}

/// One call of the job.
#[derive(Debug)]
pub(crate) struct Call {
    /// Which API.
    pub(crate) api: Api,
    /// In the job's words.
    pub(crate) purpose: &'static str,
    /// The method.
    pub(crate) method: Method,
    /// The URL.
    pub(crate) url: String,
    /// The headers that the job sends.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The body.
    pub(crate) body: String,
    /// What policy should say.
    pub(crate) expected: Expected,
}

/// The job's progress.
#[derive(Debug)]
pub(crate) struct Job {
    project: String,
    channel: String,
    step: usize,
    runs: Vec<u64>,
    summary: String,
    upload_url: String,
    file_id: String,
}

/// The report that is uploaded.
const REPORT: &str = "last night, test by test\n";

impl Job {
    /// A job that has done nothing yet.
    pub(crate) fn new(project: &str, channel: &str) -> Self {
        Self {
            project: project.to_owned(),
            channel: channel.to_owned(),
            step: 0,
            runs: Vec::new(),
            summary: "no runs".to_owned(),
            upload_url: String::new(),
            file_id: String::new(),
        }
    }

    /// The next call, until there are no more.
    pub(crate) fn next(&mut self) -> Option<Call> {
        self.step += 1;
        let project = &self.project;
        let call = match self.step {
            1 => qase(
                "read last night's runs",
                &format!("run/{project}?limit=100&offset=0&include=cases"),
            ),
            2 => {
                let runs: Vec<_> = self.runs.iter().map(u64::to_string).collect();
                qase(
                    "read their results",
                    &format!("result/{project}?run={}&limit=100", runs.join("%2C")),
                )
            }
            3 => qase(
                "read the open defects",
                &format!("defect/{project}?status=open"),
            ),
            4 => self.message(),
            5 => slack_form(
                "ask where to upload the report",
                "files.getUploadURLExternal",
                format!("filename=report.txt&length={}", REPORT.len()),
            ),
            6 => self.upload(),
            7 => slack_form(
                "finish the upload",
                "files.completeUploadExternal",
                format!(
                    "files=%5B%7B%22id%22%3A%22{}%22%2C%22title%22%3A%22report%22%7D%5D&channel_id={}",
                    self.file_id, self.channel
                ),
            ),
            8 => Call {
                expected: Expected::Refused("request_not_allowed"),
                ..slack_form(
                    "delete a message, which no rule allows",
                    "chat.delete",
                    format!("channel={}&ts=1503435956.000247", self.channel),
                )
            },
            9 => Call {
                expected: Expected::Refused("path_denied"),
                ..slack_form(
                    "revoke the token, which is closed to every workload",
                    "auth.revoke",
                    String::new(),
                )
            },
            _ => return None,
        };
        Some(call)
    }

    /// Takes from an answer what later calls need.
    pub(crate) fn answered(&mut self, _call: &Call, answer: &Answer) {
        let json = answer.json();
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        match self.step {
            1 => {
                let runs = json["result"]["entities"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                self.runs = runs.iter().filter_map(|run| run["id"].as_u64()).collect();
                self.summary = summary(&runs);
            }
            5 => {
                self.upload_url = text("upload_url");
                self.file_id = text("file_id");
            }
            _ => {}
        }
    }

    /// As `@slack/web-api` and slack-go send it: with the job's own dummy token, in the header and
    /// in the form. Neither may arrive.
    fn message(&self) -> Call {
        let mut call = slack_form(
            "post the summary",
            "chat.postMessage",
            format!(
                "token=xoxb-dummy&channel={}&text={}",
                self.channel,
                self.summary.replace(' ', "+")
            ),
        );
        call.headers
            .push(("authorization", "Bearer xoxb-dummy".to_owned()));
        call
    }

    fn upload(&self) -> Call {
        Call {
            api: Api::Slack,
            purpose: "upload the report, which takes no credential",
            method: Method::POST,
            url: self.upload_url.clone(),
            headers: vec![("content-type", "application/octet-stream".to_owned())],
            body: REPORT.to_owned(),
            expected: Expected::Permitted,
        }
    }
}

fn qase(purpose: &'static str, path: &str) -> Call {
    Call {
        api: Api::Qase,
        purpose,
        method: Method::GET,
        url: format!("https://api.qase.io/v1/{path}"),
        headers: Vec::new(),
        body: String::new(),
        expected: Expected::Permitted,
    }
}

fn slack_form(purpose: &'static str, method: &str, form: String) -> Call {
    let form_type = "application/x-www-form-urlencoded".to_owned();
    Call {
        api: Api::Slack,
        purpose,
        method: Method::POST,
        url: format!("https://slack.com/api/{method}"),
        headers: vec![("content-type", form_type)],
        body: form,
        expected: Expected::Permitted,
    }
}

fn summary(runs: &[Value]) -> String {
    let count = |status: &str| -> u64 {
        runs.iter()
            .filter_map(|run| run["stats"]["statuses"][status].as_u64())
            .sum()
    };
    let totals = json!({ "passed": count("passed"), "failed": count("failed") });
    format!(
        "{} runs, {} passed, {} failed",
        runs.len(),
        totals["passed"],
        totals["failed"]
    )
}
