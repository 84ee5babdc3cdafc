//! The nightly dashboard's job, as a cluster would read it: its app holds nothing, and nothing
//! but the relay can pass the relay by.

use std::{collections::BTreeMap, fs};

use clap::Parser;
use countersign::{
    Cli,
    environment::{self, TrustFiles},
};
use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::{
    harness::tests_directory,
    kubernetes::cluster_object::{
        Object, is_a_command, is_apart_from_its_node, is_restricted, mounts,
    },
};

const RELAY: i64 = 1337;

fn pod() -> PodSpec {
    let file = tests_directory().join("../examples/nightly-dashboard/job-by-hand.yaml");
    let text = fs::read_to_string(file).expect("the example can be read");
    let mut objects = Object::read_all(&text);
    let Some(Object::CronJob(job)) = objects.pop() else {
        panic!("the CronJob comes last")
    };
    let Some(Object::ServiceAccount(account)) = objects.pop() else {
        panic!("its account comes before")
    };
    assert_eq!(job.metadata.namespace, account.metadata.namespace);
    let job = job.spec.job_template.spec;
    let pod = job.and_then(|job| job.template.spec).expect("it has a pod");
    assert_eq!(pod.service_account_name, account.metadata.name);
    pod
}

/// The init container, the sidecar and the app.
fn containers(pod: &PodSpec) -> (&Container, &Container, &Container) {
    match (pod.init_containers.as_deref(), pod.containers.as_slice()) {
        (Some([redirect, relay]), [app]) => (redirect, relay, app),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_pod_redirects_first_and_relays_before_the_app_starts() {
    let pod = pod();
    let (redirect, relay, _app) = containers(&pod);
    for container in [redirect, relay] {
        is_a_command(container);
    }
    let line = redirect.args.as_deref().expect("it has arguments");
    assert_eq!(line, ["redirect", "--apply", "--check"], "fails closed");
    assert_eq!(relay.restart_policy.as_deref(), Some("Always"));
    let ready = relay.startup_probe.as_ref().expect("the app waits");
    let get = ready.http_get.as_ref().expect("for an answer");
    assert_eq!(get.path.as_deref(), Some("/readyz"));
}

#[test]
fn only_the_relay_passes_the_rules_and_only_redirect_sets_them() {
    let pod = pod();
    let (redirect, relay, app) = containers(&pod);
    is_apart_from_its_node(&pod);
    is_restricted(&pod, relay);
    is_restricted(&pod, app);
    let added = |container: &Container| {
        let context = container.security_context.as_ref();
        context.and_then(|context| context.capabilities.as_ref()?.add.clone())
    };
    assert_eq!(added(redirect), Some(vec!["NET_ADMIN".to_owned()]));

    // The owner that `redirect` lets pass unless it is told otherwise.
    let help = Cli::try_parse_from(["countersign", "redirect", "--help"]).expect_err("it is help");
    assert!(help.to_string().contains(&format!("[default: {RELAY}]")));
    let context = relay.security_context.as_ref().expect("it has one");
    assert_eq!(context.run_as_user, Some(RELAY));
    assert_eq!(context.run_as_group, Some(RELAY));
    let others = pod.security_context.as_ref().expect("it has one");
    assert_ne!(others.run_as_user, Some(RELAY));
    assert_ne!(others.run_as_group, Some(RELAY));
}

#[test]
fn the_app_holds_nothing_and_the_relay_a_short_lived_token() {
    let pod = pod();
    let (redirect, relay, app) = containers(&pod);
    assert!(mounts(&pod, redirect).is_empty());
    for (path, (volume, read_only)) in mounts(&pod, app) {
        assert!(read_only && volume.config_map.is_some(), "{path}");
    }
    for variable in app.env.iter().flatten() {
        assert!(variable.value_from.is_none(), "{}", variable.name);
    }
    assert!(app.env_from.is_none());

    let mounts = mounts(&pod, relay);
    let (token, read_only) = mounts["/var/run/secrets/tokens/countersign"];
    assert!(read_only);
    let projected = token.projected.as_ref().expect("it is projected");
    let [source] = projected.sources.as_deref().expect("of one source") else {
        panic!("there is one source")
    };
    let token = source.service_account_token.as_ref().expect("the token");
    assert_eq!(token.audience.as_deref(), Some("countersign"));
    assert_eq!(token.expiration_seconds, Some(600));
}

#[test]
fn the_app_has_the_variables_that_exec_sets() {
    let pod = pod();
    let (_redirect, _relay, app) = containers(&pod);
    let set: BTreeMap<_, _> = app
        .env
        .iter()
        .flatten()
        .map(|variable| (variable.name.as_str(), variable.value.clone()))
        .collect();
    let files = TrustFiles {
        bundle: "/etc/countersign/ca/bundle.pem".into(),
        root: "/etc/countersign/ca/root.pem".into(),
        trust_store: Some("/etc/countersign/ca/trust.p12".into()),
    };
    for (name, value) in environment::trust(&files, None) {
        // The image has no Java, whose trust store would be one more file.
        if name == "JAVA_TOOL_OPTIONS" {
            continue;
        }
        assert_eq!(set.get(name), Some(&Some(value)), "{name}");
    }
}
