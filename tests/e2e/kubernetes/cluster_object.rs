//! Objects for a cluster, as Kubernetes itself reads them: by the types of its API, and strictly.

use std::collections::BTreeMap;

use clap::Parser;
use k8s_openapi::{
    Resource,
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::{CronJob, Job},
        core::v1::{
            ConfigMap, Container, Namespace, PersistentVolumeClaim, Pod, PodSpec, Service,
            ServiceAccount, Volume,
        },
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    serde::{Serialize, de::DeserializeOwned},
};
use serde_json::Value;

/// An object of a kind that we deploy.
#[derive(Debug)]
pub(crate) enum Object {
    ClusterRole(ClusterRole),
    ClusterRoleBinding(ClusterRoleBinding),
    ConfigMap(ConfigMap),
    CronJob(Box<CronJob>),
    Deployment(Box<Deployment>),
    Job(Box<Job>),
    NetworkPolicy(NetworkPolicy),
    PersistentVolumeClaim(PersistentVolumeClaim),
    Pod(Box<Pod>),
    PodDisruptionBudget(PodDisruptionBudget),
    Role(Role),
    RoleBinding(RoleBinding),
    Service(Service),
    ServiceAccount(ServiceAccount),
    /// Of a kind that is only read; or that Kubernetes' types do not know.
    Other(&'static str),
}

/// Kinds of others, and those that are newer than the types.
const OTHER: [&str; 6] = [
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "PrometheusRule",
    "ServiceMonitor",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

impl Object {
    /// Reads every document; fails the test at the first that a cluster would not take.
    #[track_caller]
    pub(crate) fn read_all(yaml: &str) -> Vec<Self> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("it is YAML");
        let objects: Vec<_> = documents
            .iter()
            .filter(|document| !document.is_null())
            .map(Self::read)
            .collect();
        assert!(!objects.is_empty(), "there is no object");
        objects
    }

    #[track_caller]
    fn read(document: &Value) -> Self {
        let kind = document["kind"].as_str().expect("an object has a kind");
        match kind {
            ClusterRole::KIND => Self::ClusterRole(typed(document)),
            ClusterRoleBinding::KIND => Self::ClusterRoleBinding(typed(document)),
            ConfigMap::KIND => Self::ConfigMap(typed(document)),
            CronJob::KIND => Self::CronJob(Box::new(typed(document))),
            CustomResourceDefinition::KIND => Self::Other(CustomResourceDefinition::KIND),
            Deployment::KIND => Self::Deployment(Box::new(typed(document))),
            HorizontalPodAutoscaler::KIND => only_read::<HorizontalPodAutoscaler>(document),
            MutatingWebhookConfiguration::KIND => {
                only_read::<MutatingWebhookConfiguration>(document)
            }
            Namespace::KIND => only_read::<Namespace>(document),
            Pod::KIND => Self::Pod(Box::new(typed(document))),
            Role::KIND => Self::Role(typed(document)),
            RoleBinding::KIND => Self::RoleBinding(typed(document)),
            ValidatingWebhookConfiguration::KIND => {
                only_read::<ValidatingWebhookConfiguration>(document)
            }
            Job::KIND => Self::Job(Box::new(typed(document))),
            NetworkPolicy::KIND => Self::NetworkPolicy(typed(document)),
            PersistentVolumeClaim::KIND => Self::PersistentVolumeClaim(typed(document)),
            PodDisruptionBudget::KIND => Self::PodDisruptionBudget(typed(document)),
            Service::KIND => Self::Service(typed(document)),
            ServiceAccount::KIND => Self::ServiceAccount(typed(document)),
            other => match OTHER.iter().find(|known| **known == other) {
                Some(known) => Self::Other(known),
                None => panic!("{other} is a kind that no test looks at"),
            },
        }
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::ClusterRole(_) => ClusterRole::KIND,
            Self::ClusterRoleBinding(_) => ClusterRoleBinding::KIND,
            Self::ConfigMap(_) => ConfigMap::KIND,
            Self::CronJob(_) => CronJob::KIND,
            Self::Deployment(_) => Deployment::KIND,
            Self::Pod(_) => Pod::KIND,
            Self::Role(_) => Role::KIND,
            Self::RoleBinding(_) => RoleBinding::KIND,
            Self::Other(kind) => kind,
            Self::Job(_) => Job::KIND,
            Self::NetworkPolicy(_) => NetworkPolicy::KIND,
            Self::PersistentVolumeClaim(_) => PersistentVolumeClaim::KIND,
            Self::PodDisruptionBudget(_) => PodDisruptionBudget::KIND,
            Self::Service(_) => Service::KIND,
            Self::ServiceAccount(_) => ServiceAccount::KIND,
        }
    }
}

fn only_read<T: Resource + DeserializeOwned + Serialize>(document: &Value) -> Object {
    let _read: T = typed(document);
    Object::Other(T::KIND)
}

/// The types pass over keys that they do not know, of which a cluster warns only. A misspelt
/// `readOnlyRootFilesystem` must not go unseen, so what was read is written again and compared.
#[track_caller]
fn typed<T: Resource + DeserializeOwned + Serialize>(document: &Value) -> T {
    assert_eq!(document["apiVersion"], T::API_VERSION, "of a {}", T::KIND);
    let object: T = serde_json::from_value(document.clone())
        .unwrap_or_else(|error| panic!("this is no {}: {error}\n{document:#}", T::KIND));
    let again = serde_json::to_value(&object).expect("an object can be written");
    let mut lost = Vec::new();
    compare(document, &again, T::KIND, &mut lost);
    assert!(lost.is_empty(), "not understood: {lost:?}");
    object
}

/// Notes what is in `written` and not in `read`. Nothing and an empty value are the same.
fn compare(written: &Value, read: &Value, at: &str, lost: &mut Vec<String>) {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => {
            for (key, value) in written {
                let at = format!("{at}.{key}");
                compare(value, read.get(key).unwrap_or(&Value::Null), &at, lost);
            }
        }
        (Value::Array(written), Value::Array(read)) if written.len() == read.len() => {
            for (index, (written, read)) in written.iter().zip(read).enumerate() {
                compare(written, read, &format!("{at}[{index}]"), lost);
            }
        }
        (Value::Object(empty), Value::Null) if empty.is_empty() => {}
        (Value::Array(empty), Value::Null) if empty.is_empty() => {}
        _ if written == read => {}
        _ => lost.push(at.to_owned()),
    }
}

/// Fails unless a container keeps what Pod Security's `restricted` asks for, and a read-only
/// root besides. <https://kubernetes.io/docs/concepts/security/pod-security-standards/>
#[track_caller]
pub(crate) fn is_restricted(pod: &PodSpec, container: &Container) {
    let name = &container.name;
    let own = container.security_context.as_ref().expect("it has one");
    let pods = pod.security_context.as_ref();
    let non_root = own.run_as_non_root.or(pods.and_then(|p| p.run_as_non_root));
    assert_eq!(non_root, Some(true), "{name}");
    let uid = own.run_as_user.or(pods.and_then(|p| p.run_as_user));
    assert_ne!(uid, Some(0), "{name}");
    let profile = own.seccomp_profile.as_ref();
    let profile = profile.or(pods.and_then(|p| p.seccomp_profile.as_ref()));
    assert_eq!(profile.expect(name).type_, "RuntimeDefault");
    assert_eq!(own.allow_privilege_escalation, Some(false), "{name}");
    assert_eq!(own.read_only_root_filesystem, Some(true), "{name}");
    assert_ne!(own.privileged, Some(true), "{name}");
    let capabilities = own.capabilities.as_ref().expect(name);
    assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]), "{name}");
    assert_eq!(capabilities.add, None, "{name}");
}

/// Fails if the pod shares something with its node.
#[track_caller]
pub(crate) fn is_apart_from_its_node(pod: &PodSpec) {
    assert_ne!(pod.host_network, Some(true));
    assert_ne!(pod.host_pid, Some(true));
    assert_ne!(pod.host_ipc, Some(true));
    for volume in pod.volumes.iter().flatten() {
        assert!(volume.host_path.is_none(), "{}", volume.name);
    }
    assert_eq!(pod.automount_service_account_token, Some(false));
}

/// A container's mounts, by path: the volume, and whether it is read-only.
#[track_caller]
pub(crate) fn mounts<'p>(
    pod: &'p PodSpec,
    container: &'p Container,
) -> BTreeMap<&'p str, (&'p Volume, bool)> {
    let mut mounts = BTreeMap::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = pod
            .volumes
            .iter()
            .flatten()
            .find(|volume| volume.name == mount.name)
            .unwrap_or_else(|| panic!("{} mounts no volume of the pod", mount.name));
        let read_only = mount.read_only == Some(true);
        let before = mounts.insert(mount.mount_path.as_str(), (volume, read_only));
        assert!(before.is_none(), "{} is mounted twice", mount.mount_path);
    }
    mounts
}

/// Fails unless `countersign` takes the container's arguments.
#[track_caller]
pub(crate) fn is_a_command(container: &Container) {
    // The relay's own binary takes what `countersign relay` takes.
    let image = container.image.as_deref().unwrap_or_default();
    let program: &[_] = match image.split(':').next() {
        Some("countersign-relay") => &["countersign", "relay"],
        _ => &["countersign"],
    };
    let arguments = container.args.iter().flatten().map(String::as_str);
    let line = program.iter().copied().chain(arguments);
    if let Err(error) = countersign::Cli::try_parse_from(line) {
        panic!("{}: {error}", container.name);
    }
}

#[test]
fn a_misspelt_key_is_seen() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIp: None}\n";
    let refused = std::panic::catch_unwind(|| Object::read_all(service));
    assert!(refused.is_err());
    let service = service.replace("clusterIp", "clusterIP");
    assert!(matches!(
        Object::read_all(&service).as_slice(),
        [Object::Service(_)]
    ));
}
