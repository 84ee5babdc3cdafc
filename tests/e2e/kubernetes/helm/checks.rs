//! What must hold between the rendered objects, however the values are.

use std::{collections::BTreeMap, path::Path};

use countersign_config::model::{
    CaSource, CertificateSource, Gateway, JwksSource, ResourceSource, StateStore,
};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Container, PodSpec, Volume},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{config_maps, deployments};
use crate::kubernetes::cluster_object::{
    Object, is_a_command, is_apart_from_its_node, is_restricted, mounts,
};

/// Whatever selects pods selects those of one Deployment, and of no other: of all, what asks for metrics.
#[track_caller]
pub(super) fn selectors(objects: &[Object]) {
    let pods: Vec<&BTreeMap<String, String>> = deployments(objects)
        .map(|deployment| {
            let spec = deployment.spec.as_ref().expect("it has a spec");
            let metadata = spec.template.metadata.as_ref().expect("pods have labels");
            metadata.labels.as_ref().expect("pods have labels")
        })
        .collect();
    let selects = |selector: Option<&BTreeMap<String, String>>, expected: usize| {
        let selector = selector.expect("it selects by labels");
        assert!(!selector.is_empty());
        let selected = pods.iter().filter(|labels| {
            let mut wanted = selector.iter();
            wanted.all(|(key, value)| labels.get(key) == Some(value))
        });
        assert_eq!(selected.count(), expected, "{selector:?}");
    };
    for deployment in deployments(objects) {
        let spec = deployment.spec.as_ref().expect("it has a spec");
        selects(spec.selector.match_labels.as_ref(), 1);
    }
    for object in objects {
        match object {
            Object::Service(service) => {
                let name = service.metadata.name.as_deref().unwrap_or_default();
                let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
                selects(
                    selector,
                    if name.ends_with("-metrics") {
                        pods.len()
                    } else {
                        1
                    },
                );
            }
            Object::PodDisruptionBudget(budget) => {
                let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
                selects(selector.and_then(|s| s.match_labels.as_ref()), 1);
            }
            Object::NetworkPolicy(policy) => {
                let spec = policy.spec.as_ref().expect("it has a spec");
                let types = spec.policy_types.as_deref().expect("it has types");
                if types.iter().any(|name| name == "Ingress") {
                    let selector = spec.pod_selector.as_ref().expect("it selects");
                    selects(selector.match_labels.as_ref(), 1);
                } else {
                    // That of the clients, who are let out to the gateway.
                    let way_out = spec.egress.iter().flatten().flat_map(|rule| &rule.to);
                    let peer = way_out.flatten().last().expect("there is a way out");
                    let selector = peer.pod_selector.as_ref();
                    selects(selector.and_then(|s| s.match_labels.as_ref()), 1);
                }
            }
            _ => {}
        }
    }
}

/// The pod of `helm test` asks the doctor, as strictly confined as the others.
#[track_caller]
pub(super) fn helm_test(objects: &[Object]) {
    let pod = objects.iter().find_map(|object| match object {
        Object::Pod(pod) => Some(pod),
        _ => None,
    });
    let pod = pod.expect("there is a test");
    let hook = pod.metadata.annotations.as_ref().expect("it is a hook");
    assert_eq!(hook["helm.sh/hook"], "test");
    let spec = pod.spec.as_ref().expect("it has a spec");
    let [container] = spec.containers.as_slice() else {
        panic!("it does one thing")
    };
    is_apart_from_its_node(spec);
    is_restricted(spec, container);
    is_a_command(container);
    assert_eq!(container.args.as_ref().expect("arguments")[0], "doctor");
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
    match &tls.source {
        CertificateSource::Files { certificate, key } => {
            assert_private(mounted(certificate));
            assert_private(mounted(key));
        }
        CertificateSource::Signer { names, .. } => assert_eq!(names.len(), 4),
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
    let policies = gateway.resources.iter().find_map(|source| {
        if let ResourceSource::Directory(directory) = source {
            Some(directory)
        } else {
            None
        }
    });
    let policies = policies.expect("files may be added");
    let (volume, read_only) = mounted(policies);
    assert!(read_only);
    let name = volume.config_map.as_ref().map(|map| &map.name);
    let named = |map: &ConfigMap| map.metadata.name.as_ref() == name;
    assert!(config_maps(objects).any(named), "{name:?} is not rendered");

    let StateStore::Directory { path: state, .. } = &gateway.state else {
        panic!("the state is in a directory")
    };
    assert!(!mounted(state).1);
    if let CaSource::Directory(ca) = &gateway.ca {
        outlives_the_pod(mounted(ca), objects);
    }
    for (path, (volume, read_only)) in &mounts {
        let data = *path == "/var/lib/countersign";
        assert!(*read_only != data, "{path}");
        if path.starts_with("/run/secrets/") {
            assert_private((volume, *read_only));
        }
    }
}

/// The volume of the authority: a Secret, or a claim that is rendered if any is.
#[track_caller]
fn outlives_the_pod((volume, read_only): (&Volume, bool), objects: &[Object]) {
    if volume.secret.is_some() {
        return assert_private((volume, read_only));
    }
    let claim = volume.persistent_volume_claim.as_ref();
    let claim = claim.expect("the root outlives the pod");
    assert!(!read_only);
    for object in objects {
        if let Object::PersistentVolumeClaim(made) = object {
            assert_eq!(made.metadata.name.as_ref(), Some(&claim.claim_name));
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
