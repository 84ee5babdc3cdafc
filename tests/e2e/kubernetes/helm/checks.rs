//! What must hold between the rendered objects, however the values are.

use std::{collections::BTreeMap, path::Path};

use countersign_config::model::{CaSource, Gateway, JwksSource, ResourceSource, StateStore};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Container, PodSpec, Volume},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::config_maps;
use crate::kubernetes::cluster_object::{
    Object, is_a_command, is_apart_from_its_node, is_restricted, mounts,
};

/// What is meant for the gateway's pods must select them.
#[track_caller]
pub(super) fn selectors(objects: &[Object], deployment: &Deployment) {
    let spec = deployment.spec.as_ref().expect("it has a spec");
    let metadata = spec.template.metadata.as_ref().expect("pods have labels");
    let labels = metadata.labels.as_ref().expect("pods have labels");
    let selects = |selector: Option<&BTreeMap<String, String>>| {
        let selector = selector.expect("it selects by labels");
        assert!(!selector.is_empty());
        for (key, value) in selector {
            assert_eq!(labels.get(key), Some(value), "{key}");
        }
    };
    selects(spec.selector.match_labels.as_ref());
    for object in objects {
        match object {
            Object::Service(service) => {
                selects(service.spec.as_ref().and_then(|s| s.selector.as_ref()));
            }
            Object::PodDisruptionBudget(budget) => {
                let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
                selects(selector.and_then(|s| s.match_labels.as_ref()));
            }
            Object::NetworkPolicy(policy) => {
                let spec = policy.spec.as_ref().expect("it has a spec");
                let types = spec.policy_types.as_deref().expect("it has types");
                if types.iter().any(|name| name == "Ingress") {
                    let selector = spec.pod_selector.as_ref().expect("it selects");
                    selects(selector.match_labels.as_ref());
                } else {
                    // That of the clients, who are let out to the gateway.
                    let way_out = spec.egress.iter().flatten().flat_map(|rule| &rule.to);
                    let peer = way_out.flatten().last().expect("there is a way out");
                    let selector = peer.pod_selector.as_ref();
                    selects(selector.and_then(|s| s.match_labels.as_ref()));
                }
            }
            Object::ClusterRole(_)
            | Object::ClusterRoleBinding(_)
            | Object::ConfigMap(_)
            | Object::CronJob(_)
            | Object::Deployment(_)
            | Object::Job(_)
            | Object::PersistentVolumeClaim(_)
            | Object::ServiceAccount(_) => {}
        }
    }
}

/// The gateway may ask the API server whether a token stands and for its public keys, and nothing
/// else.
#[track_caller]
pub(super) fn rights(objects: &[Object], pod: &PodSpec) {
    let account = pod
        .service_account_name
        .as_ref()
        .expect("it has an account");
    for object in objects {
        match object {
            Object::ServiceAccount(made) => {
                assert_eq!(made.metadata.name.as_ref(), Some(account));
                assert_eq!(made.automount_service_account_token, Some(false));
            }
            Object::ClusterRole(role) => {
                let rules = serde_json::to_value(&role.rules).expect("rules can be written");
                let least = serde_json::json!([
                    {
                        "apiGroups": ["authentication.k8s.io"],
                        "resources": ["tokenreviews"],
                        "verbs": ["create"],
                    },
                    { "nonResourceURLs": ["/openid/v1/jwks"], "verbs": ["get"] },
                ]);
                assert_eq!(rules, least);
            }
            Object::ClusterRoleBinding(binding) => {
                let bound = objects.iter().any(|object| {
                    matches!(object, Object::ClusterRole(role)
                        if role.metadata.name.as_ref() == Some(&binding.role_ref.name))
                });
                assert!(bound, "{} is not rendered", binding.role_ref.name);
                let [subject] = binding.subjects.as_deref().expect("it binds someone") else {
                    panic!("it binds one")
                };
                assert_eq!(subject.name, *account);
                assert_eq!(subject.namespace.as_deref(), Some("egress"));
            }
            Object::ConfigMap(_)
            | Object::CronJob(_)
            | Object::Deployment(_)
            | Object::Job(_)
            | Object::NetworkPolicy(_)
            | Object::PersistentVolumeClaim(_)
            | Object::PodDisruptionBudget(_)
            | Object::Service(_) => {}
        }
    }
}

/// Every path that the gateway is told of is mounted, and is writable only if it must be.
#[track_caller]
pub(super) fn paths(gateway: &Gateway, pod: &PodSpec, container: &Container, objects: &[Object]) {
    let mounts = mounts(pod, container);
    let mounted = |path: &Path| -> (&Volume, bool) {
        let found = mounts.iter().find(|(at, _)| path.starts_with(at));
        *found
            .unwrap_or_else(|| panic!("{} is not mounted", path.display()))
            .1
    };
    let [listener] = gateway.listeners.as_slice() else {
        panic!("there is one listener")
    };
    let tls = listener.tls.as_ref().expect("it has TLS");
    for path in tls.files().expect("it is in files") {
        assert_private(mounted(path));
    }
    let [issuer] = gateway.issuers.as_slice() else {
        panic!("there is one issuer")
    };
    let review = issuer
        .token_review
        .as_ref()
        .expect("pods' ends are heard of");
    let JwksSource::Url { ca_file, .. } = &issuer.jwks else {
        panic!("the keys come from the API server")
    };
    for path in [
        ca_file,
        &review.cluster.ca_file,
        &Some(review.cluster.token_file.clone()),
    ] {
        let (volume, read_only) = mounted(path.as_ref().expect("a path is given"));
        assert!(volume.projected.is_some() && read_only);
    }
    let [ResourceSource::Directory(policies)] = gateway.resources.as_slice() else {
        panic!("the policies are in one directory")
    };
    let (volume, read_only) = mounted(policies);
    assert!(read_only);
    let name = volume.config_map.as_ref().map(|map| &map.name);
    let named = |map: &ConfigMap| map.metadata.name.as_ref() == name;
    assert!(config_maps(objects).any(named), "{name:?} is not rendered");

    let StateStore::Directory { path: state, .. } = &gateway.state else {
        panic!("the state is in a directory")
    };
    assert!(!mounted(state).1);
    let CaSource::Directory(ca) = &gateway.ca else {
        panic!("the CA is in a directory")
    };
    let (volume, read_only) = mounted(ca);
    if volume.secret.is_some() {
        assert_private((volume, read_only));
    } else {
        let claim = volume.persistent_volume_claim.as_ref();
        let claim = claim.expect("the root outlives the pod");
        assert!(!read_only);
        for object in objects {
            if let Object::PersistentVolumeClaim(made) = object {
                assert_eq!(made.metadata.name.as_ref(), Some(&claim.claim_name));
            }
        }
    }
    for (path, (volume, read_only)) in &mounts {
        let data = *path == "/var/lib/countersign";
        assert!(*read_only != data, "{path}");
        if path.starts_with("/run/secrets/") {
            assert_private((volume, *read_only));
        }
    }
}

/// A Secret that no one but the gateway reads, and no one writes.
#[track_caller]
fn assert_private((volume, read_only): (&Volume, bool)) {
    let secret = volume.secret.as_ref().expect("it is from a Secret");
    assert_eq!(secret.default_mode, Some(0o440), "{}", volume.name);
    assert!(read_only, "{}", volume.name);
}

/// The Job that checks an upgrade reads what the gateway is going to read, with its image, and no right.
#[track_caller]
pub(super) fn check_hook(objects: &[Object], gateway: &Container) {
    let job = objects.iter().find_map(|object| match object {
        Object::Job(job) => Some(job),
        _ => None,
    });
    let job = job.expect("upgrades are checked");
    let hooks = job.metadata.annotations.as_ref().expect("it is a hook");
    assert_eq!(hooks["helm.sh/hook"], "pre-install,pre-upgrade");
    let spec = job.spec.as_ref().expect("it has a spec");
    let pod = spec.template.spec.as_ref().expect("it has a pod");
    let [container] = pod.containers.as_slice() else {
        panic!("it does one thing")
    };
    is_apart_from_its_node(pod);
    is_restricted(pod, container);
    is_a_command(container);
    assert_eq!(container.image, gateway.image);
    let mounts = mounts(pod, container);
    let files = |path: &str| -> BTreeMap<String, String> {
        let (volume, read_only) = mounts[path];
        assert!(read_only);
        let source = volume.config_map.as_ref().expect("it is a ConfigMap");
        let map = config_maps(objects).find(|map| map.metadata.name.as_ref() == Some(&source.name));
        let map = map.expect("it is rendered");
        let weight = |annotations: Option<&BTreeMap<String, String>>| -> i32 {
            let weight = annotations.and_then(|all| all.get("helm.sh/hook-weight"));
            weight.expect("it has a weight").parse().expect("a number")
        };
        let before = weight(map.metadata.annotations.as_ref());
        assert!(before < weight(job.metadata.annotations.as_ref()));
        let items = source.items.iter().flatten();
        items
            .map(|item| {
                let text = &map.data.as_ref().expect("it has files")[&item.key];
                (item.path.clone(), text.clone())
            })
            .collect()
    };
    let of = |name: &str| {
        let mut maps = config_maps(objects).filter(|map| {
            let hook = map.metadata.annotations.as_ref();
            hook.is_none_or(|all| !all.contains_key("helm.sh/hook"))
        });
        let found = maps.find(|map| {
            map.data
                .as_ref()
                .is_some_and(|data| data.contains_key(name))
        });
        found
            .expect("it is rendered")
            .data
            .clone()
            .expect("it has files")
    };
    assert_eq!(files("/check/gateway"), of("gateway.yaml"));
    assert_eq!(files("/check/policy"), of("access.yaml"));
}

/// The kubelet and the Services find what listens where.
#[track_caller]
pub(super) fn ports(gateway: &Gateway, container: &Container) {
    let admin = gateway.observe.admin.expect("there is an admin endpoint");
    assert!(
        admin.ip().is_unspecified(),
        "the kubelet does not reach {admin}"
    );
    let ports: BTreeMap<_, _> = container
        .ports
        .iter()
        .flatten()
        .map(|port| {
            (
                port.name.as_deref().expect("ports are named"),
                port.container_port,
            )
        })
        .collect();
    assert_eq!(ports["admin"], i32::from(admin.port()));
    assert_eq!(
        ports["proxy"],
        i32::from(gateway.listeners[0].address.port())
    );
    for probe in [
        &container.startup_probe,
        &container.liveness_probe,
        &container.readiness_probe,
    ] {
        let get = probe.as_ref().and_then(|probe| probe.http_get.as_ref());
        let port = &get.expect("probes ask by HTTP").port;
        assert_eq!(*port, IntOrString::String("admin".to_owned()));
    }
}
