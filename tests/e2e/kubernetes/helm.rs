//! The chart, linted and rendered by Helm itself. Each object is read by Kubernetes' own types,
//! and the Gateway and the policies within as a gateway reads them.

mod checks;
mod made;
mod readme;
mod rights;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use countersign_config::{load, model::Gateway};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, PodSpec},
};
use rstest::rstest;

use crate::{
    harness::{chosen, tests_directory},
    kubernetes::cluster_object::{Object, is_a_command, is_apart_from_its_node, is_restricted},
};

/// One set of values, and how often each kind comes of it.
struct Set {
    values: &'static [&'static str],
    kinds: &'static [(&'static str, usize)],
}

/// With no values at all: all that a cluster needs.
const DEFAULTS: Set = Set {
    values: &[],
    kinds: &[
        ("ClusterRole", 6),
        ("ClusterRoleBinding", 3),
        ("ConfigMap", 4),
        ("CustomResourceDefinition", 4),
        ("Deployment", 2),
        ("Job", 1),
        ("MutatingWebhookConfiguration", 1),
        ("NetworkPolicy", 2),
        ("Pod", 1),
        ("PodDisruptionBudget", 2),
        ("Role", 2),
        ("RoleBinding", 2),
        ("Service", 3),
        ("ServiceAccount", 3),
        ("ValidatingWebhookConfiguration", 1),
    ],
};

const HA: Set = Set {
    values: &["../../../../deploy/helm/countersign/values-ha.yaml"],
    kinds: &[
        ("ClusterRole", 6),
        ("ClusterRoleBinding", 3),
        ("ConfigMap", 5),
        ("CustomResourceDefinition", 4),
        ("Deployment", 2),
        ("HorizontalPodAutoscaler", 1),
        ("Job", 1),
        ("MutatingWebhookConfiguration", 1),
        ("NetworkPolicy", 2),
        ("Pod", 1),
        ("PodDisruptionBudget", 2),
        ("PrometheusRule", 1),
        ("Role", 2),
        ("RoleBinding", 2),
        ("Service", 4),
        ("ServiceAccount", 3),
        ("ServiceMonitor", 1),
        ("ValidatingWebhookConfiguration", 1),
    ],
};

/// Without a controller, as before there was one.
const SEVERAL: Set = Set {
    values: &["several.yaml"],
    kinds: &[
        ("ClusterRole", 5),
        ("ClusterRoleBinding", 2),
        ("ConfigMap", 3),
        ("CustomResourceDefinition", 4),
        ("Deployment", 1),
        ("Job", 1),
        ("NetworkPolicy", 3),
        ("Pod", 1),
        ("PodDisruptionBudget", 1),
        ("Role", 2),
        ("RoleBinding", 2),
        ("Service", 2),
        ("ServiceAccount", 2),
    ],
};

const BARE: Set = Set {
    values: &["bare.yaml"],
    kinds: &[
        ("ConfigMap", 2),
        ("Deployment", 1),
        ("Pod", 1),
        ("Service", 2),
        ("ServiceAccount", 1),
        ("ClusterRole", 1),
        ("ClusterRoleBinding", 1),
    ],
};

#[rstest]
#[case::defaults(&DEFAULTS)]
#[case::ha(&HA)]
#[case::several(&SEVERAL)]
#[case::bare(&BARE)]
fn the_chart_renders_what_a_cluster_and_a_gateway_accept(#[case] set: &Set) {
    let Some(helm) = Helm::find() else { return };
    let mut arguments = Vec::new();
    for values in set.values {
        let file = tests_directory().join("e2e/kubernetes/helm").join(values);
        arguments.extend(["--values".to_owned(), file.display().to_string()]);
    }
    for file in ["access", "credentials", "workload"] {
        let path = root().join(format!("examples/nightly-dashboard/policy/{file}.yaml"));
        arguments.push("--set-file".to_owned());
        arguments.push(format!(r"policies.{file}\.yaml={}", path.display()));
    }

    succeeded(&helm.run(&["lint", "--strict"], &arguments));
    let rendered = succeeded(&helm.run(&["template", "release", "--namespace=egress"], &arguments));
    let objects = Object::read_all(&rendered);
    assert_eq!(kinds(&objects), set.kinds.iter().copied().collect());

    let deployment = gateway_of(&objects);
    for deployment in deployments(&objects) {
        let pod = pod_of(deployment);
        let [container] = pod.containers.as_slice() else {
            panic!("a pod does one thing")
        };
        is_apart_from_its_node(pod);
        is_restricted(pod, container);
        is_a_command(container);
    }
    checks::helm_test(&objects);
    let pod = pod_of(deployment);
    let container = &pod.containers[0];
    checks::selectors(&objects);
    rights::are_those_of_the_table(&objects);
    if kinds(&objects).contains_key("Job") {
        checks::check_hook(&objects, container);
    }

    let directory = tempfile::tempdir().expect("there is a place for files");
    let gateway = load_gateway(&objects, directory.path());
    load_policies(&objects, directory.path());
    checks::paths(&gateway, pod, container, &objects);
    checks::ports(&gateway, container);
    let grace = deployment_grace(pod);
    let drain = gateway.limits.drain.as_secs();
    assert!(grace >= drain + 10, "{grace} s are too few for {drain} s");
}

#[rstest]
#[case::one_state_for_several("persistence.enabled=true", "cannot share one state directory")]
#[case::a_root_that_is_lost(
    "controller.enabled=false,tls.existingSecret=tls",
    "a new root at each start"
)]
#[case::two_roots("ca.existingSecret=a,trust.rootSecret=b", "set one")]
#[case::no_such_engine(
    "injection.engine=sidecar",
    "must be one of 'webhook', 'admissionPolicy'"
)]
#[case::a_policy_with_other_ports(
    "injection.engine=admissionPolicy,injection.ports.http=8080",
    "has fixed relayUid, relayGid and ports"
)]
#[case::a_policy_with_a_mode(
    "injection.engine=admissionPolicy,injection.defaultMode=proxy",
    "leave injection.defaultMode empty"
)]
#[case::a_range_that_is_none("injection.clusterRanges[0]=cluster", "does not match pattern")]
#[case::a_key_that_is_none("replicas=2", "additional properties 'replicas' not allowed")]
#[case::a_policy_file_that_is_not_read(r"policies.access\.txt=x", "'access.txt' not allowed")]
#[case::clear_text_issuer("gateway.cluster.issuer=http://issuer", "does not match pattern")]
#[case::no_such_mode("gateway.unmatched=allow", "must be one of 'deny', 'tunnel'")]
#[case::no_certificate(
    "controller.enabled=false,persistence.enabled=true,replicaCount=1",
    "nobody signs the gateways' certificates"
)]
#[case::no_account("serviceAccount.create=false", "serviceAccount.name is needed")]
fn the_chart_refuses_what_could_not_work(#[case] values: &str, #[case] reason: &str) {
    let Some(helm) = Helm::find() else { return };
    let set = format!("--set={values}");
    let output = helm.run(&["template", "release"], &[set]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it was rendered");
    assert!(said.contains(reason), "{said}");
}

/// While pods of two `ReplicaSet`s run, each finds the file that it was made for.
#[test]
fn another_gateway_file_has_another_name() {
    let Some(helm) = Helm::find() else { return };
    let named = |set: &str| {
        let arguments = [format!("--set={set}")];
        let rendered = succeeded(&helm.run(&["template", "release"], &arguments));
        let objects = Object::read_all(&rendered);
        let mut maps = config_maps(&objects);
        let is_gateways = |map: &&ConfigMap| {
            map.data
                .as_ref()
                .is_some_and(|data| data.contains_key("gateway.yaml"))
        };
        let map = maps.find(|map| map.immutable == Some(true) && is_gateways(map));
        let name = map.expect("it is rendered").metadata.name.clone();
        let name = name.expect("it has a name");
        let deployment = gateway_of(&objects);
        let volumes = pod_of(deployment).volumes.iter().flatten();
        let mut used = volumes.filter_map(|volume| volume.config_map.as_ref());
        assert!(used.any(|map| map.name == name), "{name} is not used");
        name
    };
    let name = named("replicaCount=1");
    assert_eq!(named("podLabels.a=b"), name);
    assert_ne!(named("gateway.limits.drain=20s"), name);
}

/// Which `ConfigMap`s a job's namespace needs is said in three places.
#[test]
fn notes_readme_and_example_name_the_same_config_maps() {
    let read = |file: &str| fs::read_to_string(root().join(file)).expect("it is there");
    let created = |text: &str| -> BTreeSet<String> {
        let names = text.split("create configmap ").skip(1);
        let first = names.filter_map(|rest| rest.split_whitespace().next());
        first.map(str::to_owned).collect()
    };
    let notes = created(&read("deploy/helm/countersign/templates/NOTES.txt"));
    assert_eq!(notes, created(&read("deploy/README.md")));
    let job = Object::read_all(&read("examples/nightly-dashboard/job-by-hand.yaml"));
    let job = one(&job, |object| match object {
        Object::CronJob(job) => Some(&job.spec),
        _ => None,
    });
    let pod = job.job_template.spec.as_ref().expect("a spec");
    let pod = pod.template.spec.as_ref().expect("a pod");
    let volumes = pod.volumes.iter().flatten();
    let used: BTreeSet<_> = volumes
        .filter_map(|volume| Some(volume.config_map.as_ref()?.name.clone()))
        .collect();
    assert_eq!(notes, used);
}

/// Helm, with a home of its own.
struct Helm {
    program: PathBuf,
    home: tempfile::TempDir,
}

impl Helm {
    /// The one that `tests/run` installs; says so if it is not there.
    fn find() -> Option<Self> {
        let usual = tests_directory().join(".venv/bin/helm");
        Some(Self {
            program: chosen("COUNTERSIGN_TEST_HELM", &usual)?,
            home: tempfile::tempdir().expect("there is a place for a home"),
        })
    }

    fn run(&self, command: &[&str], arguments: &[String]) -> Output {
        Command::new(&self.program)
            .args(command)
            .arg(root().join("deploy/helm/countersign"))
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .output()
            .expect("helm starts")
    }
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    stdout
}

fn kinds(objects: &[Object]) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    for object in objects {
        *kinds.entry(object.kind()).or_default() += 1;
    }
    kinds
}

#[track_caller]
fn one<'o, T: ?Sized>(objects: &'o [Object], pick: impl Fn(&'o Object) -> Option<&'o T>) -> &'o T {
    let mut found = objects.iter().filter_map(pick);
    let first = found.next().expect("there is one");
    assert!(found.next().is_none(), "there is one only");
    first
}

fn deployments(objects: &[Object]) -> impl Iterator<Item = &Deployment> {
    objects.iter().filter_map(|object| match object {
        Object::Deployment(deployment) => Some(&**deployment),
        _ => None,
    })
}

/// The gateways' Deployment.
#[track_caller]
fn gateway_of(objects: &[Object]) -> &Deployment {
    let mut found = deployments(objects).filter(|it| is(it, "gateway"));
    let first = found.next().expect("there is one");
    assert!(found.next().is_none(), "there is one only");
    first
}

fn is(deployment: &Deployment, component: &str) -> bool {
    let labels = deployment.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels["app.kubernetes.io/component"] == component)
}

fn pod_of(deployment: &Deployment) -> &PodSpec {
    let spec = deployment.spec.as_ref().expect("it has a spec");
    spec.template.spec.as_ref().expect("it has a pod")
}

fn deployment_grace(pod: &PodSpec) -> u64 {
    let grace = pod.termination_grace_period_seconds.expect("it is set");
    u64::try_from(grace).expect("it is no debt")
}

fn config_maps(objects: &[Object]) -> impl Iterator<Item = &ConfigMap> {
    objects.iter().filter_map(|object| match object {
        Object::ConfigMap(map) => Some(map),
        _ => None,
    })
}

fn load_gateway(objects: &[Object], directory: &Path) -> Gateway {
    let text = config_maps(objects)
        .find_map(|map| map.data.as_ref()?.get("gateway.yaml"))
        .expect("there is a gateway.yaml");
    let file = directory.join("gateway.yaml");
    fs::write(&file, text).expect("a file can be written");
    match load::gateway(&file) {
        Ok((gateway, warnings)) if warnings.0.is_empty() => gateway,
        Ok((_, problems)) | Err(problems) => panic!("{problems}\n{text}"),
    }
}

fn load_policies(objects: &[Object], directory: &Path) {
    let policy = directory.join("policy");
    fs::create_dir(&policy).expect("a directory can be made");
    let files = config_maps(objects)
        .filter_map(|map| map.data.as_ref())
        .find(|data| data.contains_key("access.yaml") && !data.contains_key("gateway.yaml"))
        .expect("the policies are in a ConfigMap of their own");
    assert_eq!(files.len(), 3);
    for (name, text) in files {
        fs::write(policy.join(name), text).expect("a file can be written");
    }
    let loaded = load::resources(&[policy]).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.0.is_empty(), "{}", loaded.warnings);
    assert!(loaded.policies.intercepted_hosts().count() > 0);
}

fn root() -> &'static Path {
    tests_directory().parent().expect("the workspace is above")
}
