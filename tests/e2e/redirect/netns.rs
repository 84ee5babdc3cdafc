//! Pods that know nothing, in network namespaces: a pod with the redirection rules and the relay, the
//! gateways, and an internet with the stand-ins, all by the real binary and the real kernel.

mod apps;
mod bypass;
mod failover;
mod proofs;
mod rules;
mod size;

use std::path::Path;

use countersign_tests::netns::{Options, Pod, Shown, run};

use crate::harness::{DUMMY_APP, DUMMY_BOT, DUMMY_QASE, WEBHOOK, chosen, python, tests_directory};

/// What is no host of a target is carried on unread.
const TUNNEL: Options = Options {
    unmatched: "tunnel",
    spiffe: false,
};

/// Runs a script of `clients/` in the pod, as the app, or says that it cannot.
async fn script(pod: &Pod<'_>, language: &str, script: &str) -> Option<Shown> {
    let program = match language {
        "python" => python(),
        _ => chosen("COUNTERSIGN_TEST_NODE", Path::new("/usr/bin/node")),
    }?;
    let mut app = pod.app(program).expect("the pod can run it");
    app.arg(
        tests_directory()
            .join("clients")
            .join(language)
            .join(script),
    )
    .env("SLACK_BOT_TOKEN", DUMMY_BOT)
    .env("SLACK_APP_TOKEN", DUMMY_APP)
    .env("SLACK_WEBHOOK_URL", WEBHOOK)
    .env("QASE_TOKEN", DUMMY_QASE);
    Some(run(app, "").await.expect("it ends"))
}

/// Runs a program in the pod, as the app.
async fn app(pod: &Pod<'_>, program: &str, arguments: &[&str], words: &str) -> Shown {
    let mut app = pod.app(program).expect("the pod can run it");
    app.args(arguments);
    run(app, words).await.expect("it ends")
}
