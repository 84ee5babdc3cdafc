//! What injection makes of pods, and what it refuses.

mod merging;
mod policies;
mod refusals;
mod reviews;
mod serving;

use serde_json::{Value, json};

use super::*;

pub(super) fn settings() -> Settings {
    let text =
        "gateways: [\"countersign-headless.egress.svc:3128\"]\nclusterRanges: [10.96.0.0/16]\n";
    Settings::parse(text).expect("they are good")
}

pub(super) fn namespace(more: &[(&str, &str)]) -> NamespaceFacts {
    let labels = [(names::INJECT, names::ENABLED)];
    NamespaceFacts {
        name: "qa".to_owned(),
        labels: labels
            .iter()
            .chain(more)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..NamespaceFacts::default()
    }
}

/// The pod of a CronJob, as the API server sends it.
pub(super) fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "nightly-dashboard-29300000-", "namespace": "qa",
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "nightly-dashboard-29300000",
                "uid": "b0000000-0000-4000-8000-000000000000", "controller": true}],
        },
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 30,
            "initContainers": [{"name": "prepare", "image": "ghcr.io/acme/prepare:1"}],
            "containers": [{"name": "dashboard", "image": "ghcr.io/acme/dashboard:1.4.2", "command": ["python", "dashboard.py"]}],
        },
    })
}

/// A pod with one value changed or added; the path's last part may be new.
pub(super) fn changed(mut pod: Value, path: &[&str], value: Value) -> Value {
    let mut at = &mut pod;
    for key in path {
        at = match key.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[*key],
        };
    }
    *at = value;
    pod
}

#[track_caller]
pub(super) fn injected(pod: &Value, namespace: &NamespaceFacts) -> Injection {
    match inject(pod, namespace, &settings()) {
        Ok(injection) => injection,
        Err(why) => panic!("it was not injected: {why}"),
    }
}

/// Applies a patch as the API server does: each operation adds or replaces a whole value.
pub(super) fn patched(mut pod: Value, patch: &[Value]) -> Value {
    for operation in patch {
        assert_eq!(operation["op"], "add");
        let path = operation["path"].as_str().expect("it has a path");
        let (parent, key) = path.rsplit_once('/').expect("it has a parent");
        pod.pointer_mut(parent).expect("the parent is there")[key] = operation["value"].clone();
    }
    pod
}

fn names_of<'v>(pod: &'v Value, list: &str) -> Vec<&'v str> {
    let list = pod["spec"][list].as_array().expect("it is a list");
    list.iter()
        .map(|it| it["name"].as_str().expect("it has a name"))
        .collect()
}

#[test]
fn the_relay_is_the_first_sidecar_and_the_redirection_is_before_it() {
    let injection = injected(&pod(), &namespace(&[]));
    assert_eq!(injection.mode, Mode::Redirect);
    let expected = ["countersign-redirect", "countersign-relay", "prepare"];
    assert_eq!(names_of(&injection.pod, "initContainers"), expected);
    let relay = &injection.pod["spec"]["initContainers"][1];
    assert_eq!(relay["restartPolicy"], "Always");
    assert_eq!(relay["startupProbe"]["periodSeconds"], 1);
    assert_eq!(relay["startupProbe"]["failureThreshold"], 120);
    assert_eq!(
        injection.pod["metadata"]["annotations"]["countersign.dev/injected"],
        "redirect"
    );
    assert_eq!(
        injection.pod["metadata"]["labels"]["countersign.dev/client"],
        "true"
    );
}

#[test]
fn the_patch_makes_the_pod_and_touches_nothing_else() {
    for pod in [
        pod(),
        changed(pod(), &["metadata", "annotations"], json!({"a/b": "c"})),
    ] {
        let injection = injected(&pod, &namespace(&[]));
        assert_eq!(patched(pod.clone(), &injection.patch), injection.pod);
        // The app's own container is what it was, but for what was added.
        let app = &injection.pod["spec"]["containers"][0];
        assert_eq!(app["command"], pod["spec"]["containers"][0]["command"]);
        assert_eq!(app["image"], pod["spec"]["containers"][0]["image"]);
    }
}

#[test]
fn the_token_is_mounted_in_the_relay_alone() {
    let injection = injected(&pod(), &namespace(&[]));
    let spec = &injection.pod["spec"];
    let token = spec["volumes"].as_array().unwrap().iter();
    let token = token
        .clone()
        .find(|it| it["name"] == "countersign-token")
        .unwrap();
    let source = &token["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(source["audience"], "countersign");
    assert_eq!(source["expirationSeconds"], 600);
    let all = ["initContainers", "containers"].into_iter();
    let all = all.flat_map(|list| spec[list].as_array().unwrap());
    let holders: Vec<_> = all
        .filter(|container| {
            let mounts = container["volumeMounts"].as_array();
            mounts
                .into_iter()
                .flatten()
                .any(|mount| mount["name"] == "countersign-token")
        })
        .map(|container| container["name"].as_str().unwrap())
        .collect();
    assert_eq!(holders, ["countersign-relay"]);
}

#[test]
fn an_injected_pod_is_left_alone_and_one_that_was_changed_gets_back_what_it_lacks() {
    for labels in [&[][..], &[(names::POD_SECURITY, "restricted")]] {
        let namespace = namespace(labels);
        let once = injected(&pod(), &namespace).pod;
        let again = inject(&once, &namespace, &settings());
        assert_eq!(
            again,
            Err(NotInjected::LeftAlone(LeftAlone::AlreadyInjected))
        );

        // The API server and other webhooks add to our containers; that is no reason to make them anew.
        let relay = names_of(&once, "initContainers")
            .iter()
            .position(|it| *it == "countersign-relay")
            .unwrap();
        let relay = relay.to_string();
        let at = |path: &[&'static str]| [&["spec", "initContainers", &relay], path].concat();
        let defaulted = changed(
            once.clone(),
            &at(&["startupProbe", "successThreshold"]),
            json!(1),
        );
        assert!(inject(&defaulted, &namespace, &settings()).is_err());

        let more = json!({"name": "late", "image": "late:1"});
        let mut late = once.clone();
        late["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(more);
        let again = injected(&late, &namespace).pod;
        assert_eq!(
            again["spec"]["containers"][1]["volumeMounts"][0]["name"],
            "countersign-ca"
        );

        let other_arguments = changed(once.clone(), &at(&["args"]), json!(["--gateway=evil:1"]));
        assert_eq!(injected(&other_arguments, &namespace).pod, once);
        let stronger = changed(
            once.clone(),
            &at(&["securityContext", "capabilities", "add"]),
            json!(["NET_ADMIN"]),
        );
        assert_eq!(injected(&stronger, &namespace).pod, once);
    }
}

#[test]
fn what_an_older_version_injected_is_brought_up_to_date() {
    let once = injected(&pod(), &namespace(&[])).pod;
    let older = changed(
        once.clone(),
        &["spec", "initContainers", "1", "image"],
        json!("countersign-relay:0.0.9"),
    );
    assert_eq!(injected(&older, &namespace(&[])).pod, once);
}

#[test]
fn the_mode_follows_pod_security_and_says_why() {
    let mode = |labels: &[(&str, &str)]| {
        let injection = injected(&pod(), &namespace(labels));
        (injection.mode, injection.because)
    };
    assert_eq!(mode(&[]).0, Mode::Redirect);
    for level in ["restricted", "baseline"] {
        let (mode, because) = mode(&[(names::POD_SECURITY, level)]);
        assert_eq!(mode, Mode::Proxy);
        assert!(because.contains(level), "{because}");
    }
    assert_eq!(
        mode(&[(names::POD_SECURITY, "privileged")]).0,
        Mode::Redirect
    );
    let asked = changed(
        pod(),
        &["metadata", "annotations"],
        json!({names::MODE: "proxy"}),
    );
    let injection = injected(&asked, &namespace(&[]));
    assert_eq!(injection.mode, Mode::Proxy);
    assert_eq!(
        names_of(&injection.pod, "initContainers"),
        ["countersign-relay", "prepare"]
    );
    // Its own wish before its namespace's.
    let mut facts = namespace(&[]);
    facts
        .annotations
        .insert(names::MODE.to_owned(), "proxy".to_owned());
    assert_eq!(injected(&pod(), &facts).mode, Mode::Proxy);
    let asked = changed(
        pod(),
        &["metadata", "annotations"],
        json!({names::MODE: "redirect"}),
    );
    assert_eq!(injected(&asked, &facts).mode, Mode::Redirect);
}

#[test]
fn the_position_can_be_chosen_and_containers_before_the_relay_are_not_touched() {
    let with = |position: &str| {
        changed(
            pod(),
            &["metadata", "annotations"],
            json!({names::POSITION: position}),
        )
    };
    for position in ["last", "after:prepare"] {
        let injection = injected(&with(position), &namespace(&[]));
        let expected = ["prepare", "countersign-redirect", "countersign-relay"];
        assert_eq!(names_of(&injection.pod, "initContainers"), expected);
        assert_eq!(
            injection.pod["spec"]["initContainers"][0],
            pod()["spec"]["initContainers"][0]
        );
    }
    assert_eq!(
        injected(&with("first"), &namespace(&[])).pod["spec"]["initContainers"][0]["name"],
        "countersign-redirect"
    );
}

#[test]
fn some_pods_are_left_alone() {
    let left = |pod: &Value, namespace: &NamespaceFacts| match inject(pod, namespace, &settings()) {
        Err(NotInjected::LeftAlone(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        left(&pod(), &NamespaceFacts::default()),
        LeftAlone::NamespaceNotOptedIn
    );
    for name in ["countersign", "kube-system"] {
        let namespace = NamespaceFacts {
            name: name.to_owned(),
            ..namespace(&[])
        };
        assert_eq!(left(&pod(), &namespace), LeftAlone::SystemNamespace);
    }
    let mirror = changed(
        pod(),
        &["metadata", "annotations"],
        json!({names::MIRROR: "hash"}),
    );
    assert_eq!(left(&mirror, &namespace(&[])), LeftAlone::MirrorPod);
    let out = changed(
        pod(),
        &["metadata", "annotations"],
        json!({names::INJECT: "disabled"}),
    );
    assert_eq!(
        left(&out, &namespace(&[(names::OPT_OUT, "allowed")])),
        LeftAlone::OptedOut
    );
    // Also one that could not be injected.
    let out = changed(out, &["spec", "hostNetwork"], json!(true));
    assert_eq!(
        left(&out, &namespace(&[(names::OPT_OUT, "allowed")])),
        LeftAlone::OptedOut
    );
}

#[test]
fn the_relay_ends_before_the_kubelet_kills_it() {
    let drain = |grace: Value| {
        let pod = changed(pod(), &["spec", "terminationGracePeriodSeconds"], grace);
        let args = injected(&pod, &namespace(&[])).pod["spec"]["initContainers"][1]["args"].clone();
        let args = args.as_array().unwrap().iter().filter_map(Value::as_str);
        args.clone()
            .find(|it| it.starts_with("--drain"))
            .unwrap()
            .to_owned()
    };
    for (grace, expected) in [
        (json!(30), "25s"),
        (json!(10), "5s"),
        (json!(0), "1s"),
        (json!(300), "25s"),
        (json!(null), "25s"),
    ] {
        assert_eq!(drain(grace), format!("--drain={expected}"));
    }
}

#[test]
fn what_is_added_keeps_pod_security_restricted_but_for_the_redirection() {
    for (pod, namespace) in [
        (pod(), namespace(&[])),
        (pod(), namespace(&[(names::POD_SECURITY, "restricted")])),
    ] {
        let injection = injected(&pod, &namespace);
        for container in injection.pod["spec"]["initContainers"].as_array().unwrap() {
            if container["name"] != "countersign-relay" {
                continue;
            }
            let context = &container["securityContext"];
            assert_eq!(context["runAsNonRoot"], true);
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
            assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
        }
        for volume in injection.pod["spec"]["volumes"].as_array().unwrap() {
            assert!(volume["projected"].is_object() || volume["configMap"].is_object());
        }
    }
}

#[test]
fn a_pod_with_resources_for_all_containers_gets_none_of_ours() {
    let shared = changed(
        pod(),
        &["spec", "resources"],
        json!({"limits": {"memory": "1Gi"}}),
    );
    let injection = injected(&shared, &namespace(&[]));
    for container in &injection.pod["spec"]["initContainers"].as_array().unwrap()[..2] {
        assert!(container.get("resources").is_none());
    }
}

#[test]
fn settings_are_refused_with_all_that_is_wrong() {
    let refused = |text: &str| Settings::parse(text).unwrap_err().to_string();
    let both = refused("relayUid: 0\naudience: ''\n");
    for part in ["gateways", "relayUid", "audience"] {
        assert!(both.contains(part), "{both}");
    }
    for (text, part) in [
        ("gateways: [a]", "gateways"),
        ("gateways: [\"a:1\"]\nrelayimage: x", "relayimage"),
        (
            "gateways: [\"a:1\"]\nports: {http: 1, redirected: 1, health: 2}",
            "ports",
        ),
        ("gateways: [\"a:1\"]\nclusterRanges: [10.0.0.0/99]", ""),
        (
            "gateways: [\"a:1\"]\nimagePullPolicy: always",
            "imagePullPolicy",
        ),
        (
            "gateways: [\"a:1\"]\nrelayResources: {limits: 3}",
            "relayResources",
        ),
        ("gateways: [\"a:1\"]\ndefaultMode: steer", ""),
    ] {
        let told = refused(text);
        assert!(told.contains(part), "{text}: {told}");
    }
}
