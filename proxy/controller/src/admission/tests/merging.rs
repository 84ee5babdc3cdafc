//! The variables of containers, merged with what is there.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{changed, inject, injected, names, namespace, pod, settings};

/// The app's variables after injection: the last of a name is in force.
fn env_of(own: Value) -> BTreeMap<String, Value> {
    let pod = changed(pod(), &["spec", "containers", "0", "env"], own);
    let injection = injected(&pod, &namespace(&[]));
    // Merging what was merged changes nothing.
    assert!(inject(&injection.pod, &namespace(&[]), &settings()).is_err());
    env(&injection.pod["spec"]["containers"][0])
}

fn env(container: &Value) -> BTreeMap<String, Value> {
    let env = container["env"].as_array().expect("it has variables");
    let entries = env
        .iter()
        .map(|it| (it["name"].as_str().unwrap().to_owned(), it["value"].clone()));
    entries.collect()
}

#[test]
fn every_variable_is_in_every_container_and_later_init_container() {
    let injection = injected(&pod(), &namespace(&[]));
    let spec = &injection.pod["spec"];
    for container in [&spec["containers"][0], &spec["initContainers"][2]] {
        let env = env(container);
        for name in [
            "HTTPS_PROXY",
            "https_proxy",
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "all_proxy",
        ] {
            assert_eq!(env[name], "http://127.0.0.1:3128", "{name}");
        }
        let beside = "localhost,127.0.0.1,::1,.svc,.cluster.local,10.96.0.0/16";
        assert_eq!(env["NO_PROXY"], beside);
        assert_eq!(env["no_proxy"], beside);
        assert_eq!(env["NODE_USE_ENV_PROXY"], "1");
        assert_eq!(env["NODE_EXTRA_CA_CERTS"], "/etc/countersign/ca/root.pem");
        for name in [
            "SSL_CERT_FILE",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
            "AWS_CA_BUNDLE",
            "PIP_CERT",
            "DENO_CERT",
            "CARGO_HTTP_CAINFO",
            "GIT_SSL_CAINFO",
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        ] {
            assert_eq!(env[name], "/etc/countersign/ca/bundle.pem", "{name}");
        }
        let java = env["JAVA_TOOL_OPTIONS"].as_str().unwrap();
        for option in [
            "-Djavax.net.ssl.trustStore=/etc/countersign/ca/trust.p12",
            "-Djdk.http.auth.tunneling.disabledSchemes=",
            "-Dhttps.proxyPort=3128",
            "|*.svc|",
        ] {
            assert!(java.contains(option), "{java}");
        }
        assert_eq!(
            container["volumeMounts"],
            json!([{"name": "countersign-ca", "mountPath": "/etc/countersign/ca", "readOnly": true}])
        );
    }
    for container in &spec["initContainers"].as_array().unwrap()[..2] {
        assert!(container.get("env").is_none());
    }
}

#[test]
fn lists_are_merged_and_a_proxy_of_its_own_gives_way() {
    let env = env_of(json!([
        {"name": "HTTPS_PROXY", "value": "http://proxy.corp:8080"},
        {"name": "NO_PROXY", "value": "db.corp, localhost"},
        {"name": "JAVA_TOOL_OPTIONS", "value": "-Xmx1g"},
        {"name": "NODE_OPTIONS", "value": "--max-old-space-size=512"},
        {"name": "MINE", "value": "1"},
    ]));
    assert_eq!(env["HTTPS_PROXY"], "http://127.0.0.1:3128");
    assert_eq!(
        env["NO_PROXY"],
        "db.corp,localhost,127.0.0.1,::1,.svc,.cluster.local,10.96.0.0/16"
    );
    assert!(
        env["JAVA_TOOL_OPTIONS"]
            .as_str()
            .unwrap()
            .starts_with("-Xmx1g -Djavax")
    );
    assert_eq!(env["NODE_OPTIONS"], "--max-old-space-size=512");
    assert_eq!(env["MINE"], "1");
}

#[test]
fn a_value_from_elsewhere_is_kept_under_another_name_and_referred_to() {
    let source = json!({"configMapKeyRef": {"name": "corp", "key": "noProxy"}});
    let own = json!([
        {"name": "NO_PROXY", "valueFrom": source},
        {"name": "SSL_CERT_FILE", "valueFrom": source},
    ]);
    let pod = changed(pod(), &["spec", "containers", "0", "env"], own);
    let injection = injected(&pod, &namespace(&[]));
    let env = injection.pod["spec"]["containers"][0]["env"]
        .as_array()
        .unwrap();
    assert_eq!(
        env[0],
        json!({"name": "COUNTERSIGN_OWN_NO_PROXY", "valueFrom": source})
    );
    let merged = env[1]["value"].as_str().unwrap();
    assert!(
        merged.starts_with("$(COUNTERSIGN_OWN_NO_PROXY),localhost,"),
        "{merged}"
    );
    // A name may not have a value and a source.
    assert_eq!(
        env[2],
        json!({"name": "SSL_CERT_FILE", "value": "/etc/countersign/ca/bundle.pem"})
    );
    assert!(inject(&injection.pod, &namespace(&[]), &settings()).is_err());
}

#[test]
fn variables_keep_their_place_since_others_refer_to_them() {
    let own = json!([
        {"name": "HTTPS_PROXY", "value": "http://proxy.corp:8080"},
        {"name": "TOOL_PROXY", "value": "$(HTTPS_PROXY)"},
    ]);
    let pod = changed(pod(), &["spec", "containers", "0", "env"], own);
    let injection = injected(&pod, &namespace(&[]));
    let env = &injection.pod["spec"]["containers"][0]["env"];
    assert_eq!(env[0]["value"], "http://127.0.0.1:3128");
    assert_eq!(env[1]["name"], "TOOL_PROXY");
    let told = injection.warnings.join("\n");
    assert!(
        told.contains("container dashboard: replaced its own HTTPS_PROXY"),
        "{told}"
    );
}

#[test]
fn variables_of_a_config_map_lose_to_ours_and_stay() {
    let from = json!([{"configMapRef": {"name": "corp-proxy"}}]);
    let pod = changed(pod(), &["spec", "containers", "0", "envFrom"], from.clone());
    let injection = injected(&pod, &namespace(&[]));
    let app = &injection.pod["spec"]["containers"][0];
    // Kubernetes takes `env` before `envFrom`.
    assert_eq!(env(app)["HTTPS_PROXY"], "http://127.0.0.1:3128");
    assert_eq!(app["envFrom"], from);
}

#[test]
fn a_pod_may_keep_variables_of_its_own() {
    let annotations = json!({names::KEEP_ENV: "SSL_CERT_FILE, NO_PROXY"});
    let pod = changed(pod(), &["metadata", "annotations"], annotations);
    let own = json!([{"name": "SSL_CERT_FILE", "value": "/corp.pem"}]);
    let pod = changed(pod, &["spec", "containers", "0", "env"], own);
    let injection = injected(&pod, &namespace(&[]));
    let env = env(&injection.pod["spec"]["containers"][0]);
    assert_eq!(env["SSL_CERT_FILE"], "/corp.pem");
    assert!(!env.contains_key("NO_PROXY") && env.contains_key("no_proxy"));
    assert!(
        !injection
            .warnings
            .iter()
            .any(|it| it.contains("SSL_CERT_FILE"))
    );
}

#[test]
fn dummies_look_like_tokens_and_take_the_place_of_secrets() {
    let annotations = json!({names::DUMMY_ENV: "SLACK_BOT_TOKEN,QASE_TOKEN,SLACK_APP_TOKEN,OTHER"});
    let pod = changed(pod(), &["metadata", "annotations"], annotations.clone());
    let secret = json!([{"name": "SLACK_BOT_TOKEN", "valueFrom": {"secretKeyRef": {"name": "slack", "key": "token"}}}]);
    let pod = changed(pod, &["spec", "containers", "0", "env"], secret);
    let injection = injected(&pod, &namespace(&[]));
    let app = &injection.pod["spec"]["containers"][0]["env"];
    assert!(app[0].get("valueFrom").is_none());
    let env = env(&injection.pod["spec"]["containers"][0]);
    assert!(
        env["SLACK_BOT_TOKEN"]
            .as_str()
            .unwrap()
            .starts_with("xoxb-")
    );
    assert!(
        env["SLACK_APP_TOKEN"]
            .as_str()
            .unwrap()
            .starts_with("xapp-")
    );
    assert_eq!(env["QASE_TOKEN"].as_str().unwrap().len(), 64);
    assert_eq!(env["OTHER"], "countersign-dummy");
    assert!(!injection.warnings.join("").contains("SLACK_BOT_TOKEN"));

    // For all pods of a namespace.
    let mut facts = namespace(&[]);
    facts
        .annotations
        .insert(names::DUMMY_ENV.to_owned(), "QASE_TOKEN".to_owned());
    let injection = injected(&super::pod(), &facts);
    assert!(self::env(&injection.pod["spec"]["containers"][0]).contains_key("QASE_TOKEN"));
}

#[test]
fn raw_packets_are_dropped_where_connections_are_redirected() {
    let redirected = injected(&pod(), &namespace(&[]));
    assert_eq!(
        redirected.pod["spec"]["containers"][0]["securityContext"]["capabilities"]["drop"],
        json!(["NET_RAW"])
    );
    let proxied = injected(&pod(), &namespace(&[(names::POD_SECURITY, "restricted")]));
    assert!(
        proxied.pod["spec"]["containers"][0]
            .get("securityContext")
            .is_none()
    );
    let context = json!({"capabilities": {"drop": ["all"]}});
    let dropped = changed(
        pod(),
        &["spec", "containers", "0", "securityContext"],
        context.clone(),
    );
    let injection = injected(&dropped, &namespace(&[]));
    assert_eq!(
        injection.pod["spec"]["containers"][0]["securityContext"],
        context
    );
}
