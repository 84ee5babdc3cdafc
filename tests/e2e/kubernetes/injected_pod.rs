//! The nightly dashboard's pod as admission makes it, run in containers as a kubelet would: it succeeds in both modes,
//! with Python and Node, and its image is what it was.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use countersign_controller::admission::{Injection, NamespaceFacts, Settings, inject, names};
use countersign_tests::{
    kubelet::{Ended, Kubelet, available, images},
    netns::{GATEWAY_PORT, GATEWAYS, Options, TestBed},
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{WEBHOOK, check_received, chosen, python, tests_directory};

/// Stands for the image of the job: this machine's own files.
const IMAGE: &str = "ghcr.io/acme/dashboard:1.4.2";

/// Every variable about a proxy: an app that looks at none of them.
const WITHOUT_PROXY: &str = "env -u HTTPS_PROXY -u https_proxy -u HTTP_PROXY -u http_proxy -u ALL_PROXY -u all_proxy \
                             -u NODE_USE_ENV_PROXY";

/// What the job's pod becomes in a namespace of this level of Pod Security.
fn injected(command: &[String], level: &str) -> anyhow::Result<Injection> {
    let [relay, redirect] = images()?;
    let settings = json!({
        "gateways": [format!("{}:{GATEWAY_PORT}", GATEWAYS[0].v4())],
        "relayImage": relay, "redirectImage": redirect,
    });
    let settings = Settings::parse(&settings.to_string())?;
    let pairs = |pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pairs.collect()
    };
    let namespace = NamespaceFacts {
        name: "qa".to_owned(),
        labels: pairs(&[
            (names::INJECT, names::ENABLED),
            (names::POD_SECURITY, level),
        ]),
        annotations: pairs(&[(names::DUMMY_ENV, "SLACK_BOT_TOKEN,QASE_TOKEN")]),
    };
    let user = user(command);
    // As its developer wrote it.
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "nightly-dashboard-29300000-abcde", "namespace": "qa"},
        "spec": {
            "restartPolicy": "Never", "serviceAccountName": "nightly-dashboard",
            "terminationGracePeriodSeconds": 30,
            "containers": [{
                "name": "dashboard", "image": IMAGE, "command": command,
                "env": [{"name": "SLACK_WEBHOOK_URL", "value": WEBHOOK}, {"name": "HOME", "value": "/tmp"}],
                "securityContext": {"runAsUser": user, "runAsGroup": user, "allowPrivilegeEscalation": false},
            }],
        },
    });
    Ok(inject(&pod, &namespace, &settings)?)
}

/// The app's uid: not root, if others may look at what the command names.
fn user(command: &[String]) -> u32 {
    let open = |path: &Path| {
        let metadata = fs::metadata(path);
        metadata.is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    };
    let mut paths = command
        .iter()
        .filter_map(|part| fs::canonicalize(part).ok());
    if paths.all(|path| path.ancestors().skip(1).all(open)) {
        10001
    } else {
        0
    }
}

/// Runs the pod in the test bed's network.
async fn run(bed: &TestBed, injection: &Injection) -> anyhow::Result<Ended> {
    let mut kubelet = Kubelet::new(&bed.network.pod, IMAGE)?;
    let token = bed.env.token("qa", "nightly-dashboard");
    kubelet.volume(names::TOKEN_VOLUME, &[("token", &token)])?;
    let ca = fs::read_to_string(bed.env.directory().join("listener-ca.pem"))?;
    kubelet.volume(names::GATEWAY_CA_VOLUME, &[("ca.crt", &ca)])?;
    let root = fs::read_to_string(bed.env.ca_directory().join("root.pem"))?;
    let bundle = format!("{}{root}", bed.env.authority.pem());
    let roots = [
        (names::BUNDLE_FILE, bundle.as_str()),
        (names::ROOT_FILE, &root),
    ];
    kubelet.volume(names::CA_VOLUME, &roots)?;
    kubelet.run(&injection.pod).await
}

/// The command of a script of `clients/`; `None`, said loudly, if it cannot run here.
fn script(language: &str, name: &str) -> Option<Vec<String>> {
    let program = match language {
        "python" => python(),
        _ => chosen("COUNTERSIGN_TEST_NODE", Path::new("/usr/bin/node")),
    }?;
    let script = tests_directory().join("clients").join(language).join(name);
    Some(
        [program, script]
            .map(|path| path.display().to_string())
            .into(),
    )
}

const REDIRECT_ORDER: [&str; 7] = [
    "started countersign-redirect",
    "ended countersign-redirect 0",
    "started countersign-relay",
    "ready countersign-relay",
    "started dashboard",
    "ended dashboard 0",
    "ended countersign-relay 0",
];

#[rstest]
#[case::python_slack("python", "slack_sync.py")]
#[case::python_qase("python", "qase_api.py")]
#[case::node_slack("node", "web_api_8.mjs")]
#[case::node_qase("node", "qase.mjs")]
#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_succeeds(
    #[case] language: &str,
    #[case] name: &str,
    #[values("restricted", "privileged")] level: &str,
) -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let Some(mut command) = script(language, name) else {
        return Ok(());
    };
    if level == "privileged" {
        // Redirection needs no variable.
        command.splice(0..0, WITHOUT_PROXY.split_whitespace().map(str::to_owned));
    }
    let bed = TestBed::start(Options::default()).await?;
    let _gateway = bed.gateway(0).await?;
    let injection = injected(&command, level)?;
    let expected = match level {
        "restricted" => &REDIRECT_ORDER[2..],
        _ => &REDIRECT_ORDER[..],
    };
    let ended = run(&bed, &injection).await?;
    assert_eq!(ended.order, expected, "{}", ended.complaints);
    assert_eq!(ended.phase, "Succeeded");
    let printed: Value = serde_json::from_str(&ended.printed["dashboard"])?;
    if name.contains("qase") {
        assert_eq!(
            printed["runs"],
            json!(["Nightly: checkout", "Nightly: login"]),
            "{printed}"
        );
    } else {
        assert_eq!(printed["posted"]["ok"], true, "{printed}");
    }
    let token = bed.env.token("qa", "nightly-dashboard");
    check_received(&bed.env, &[&token]);
    countersign_tests::told(&format!(
        "{language} {name}, mode {}: {}",
        injection.mode,
        ended.order.join(", ")
    ));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_has_failed_and_its_relay_still_ends_well() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let _gateway = bed.gateway(0).await?;
    let injection = injected(&["/bin/false".to_owned()], "restricted")?;
    let ended = run(&bed, &injection).await?;
    assert_eq!(ended.phase, "Failed");
    assert_eq!(
        ended.order[2..],
        [
            "started dashboard",
            "ended dashboard 1",
            "ended countersign-relay 0"
        ]
    );
    Ok(())
}

/// The pod's own process does not see the token, and is no user that passes the rules.
#[tokio::test(flavor = "multi_thread")]
async fn the_app_sees_neither_the_token_nor_the_relays_process() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let _gateway = bed.gateway(0).await?;
    let look = format!(
        "ls {} 2>&1; cat /proc/[0-9]*/comm | grep -c countersign; true",
        names::TOKEN_PATH
    );
    let injection = injected(&["/bin/sh".to_owned(), "-c".to_owned(), look], "privileged")?;
    let ended = run(&bed, &injection).await?;
    let printed = &ended.printed["dashboard"];
    assert!(
        printed.contains("No such file") && printed.trim_end().ends_with('0'),
        "{printed}"
    );
    Ok(())
}
