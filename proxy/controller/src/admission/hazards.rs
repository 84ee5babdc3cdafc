//! What would let a pod get round its relay, or take the relay's token: it is refused, with what to change.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EphemeralContainer, PodSpec, SecurityContext, Volume, VolumeMount,
};

use super::{
    names::{CA_PATH, CA_VOLUME, INJECT, REDIRECT, RELAY, TOKEN_VOLUME, VOLUMES},
    outcome::Refusal,
    settings::Settings,
};

/// Capabilities that change the pod's network, read what passes in it, or reach the node.
pub(super) const CAPABILITIES: [&str; 8] = [
    "ALL",
    "NET_ADMIN",
    "NET_RAW",
    "SYS_ADMIN",
    "SYS_MODULE",
    "SYS_RAWIO",
    "BPF",
    "DAC_READ_SEARCH",
];

/// Folders of a node where tokens of its pods can be read, or its pods be changed.
pub(super) const NODE_PATHS: [&str; 8] = [
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/run",
    "/run",
    "/proc",
    "/etc/kubernetes",
];

/// A container of any kind, as far as this module looks at it.
struct Looked<'a> {
    field: String,
    name: &'a str,
    context: Option<&'a SecurityContext>,
    mounts: &'a [VolumeMount],
    ports: Vec<i32>,
}

impl<'a> Looked<'a> {
    fn container(field: String, container: &'a Container) -> Self {
        let ports = container.ports.iter().flatten();
        Self {
            field,
            name: &container.name,
            context: container.security_context.as_ref(),
            mounts: container.volume_mounts.as_deref().unwrap_or_default(),
            ports: ports.map(|port| port.container_port).collect(),
        }
    }

    fn ephemeral(field: String, container: &'a EphemeralContainer) -> Self {
        Self {
            field,
            name: &container.name,
            context: container.security_context.as_ref(),
            mounts: container.volume_mounts.as_deref().unwrap_or_default(),
            ports: Vec::new(),
        }
    }
}

/// All that is wrong with a pod. Its own relay and redirecting init container, if it has them, are not looked at:
/// `ours` says which they are.
pub(super) fn of_pod(
    spec: &PodSpec,
    settings: &Settings,
    ours: impl Fn(&Container) -> bool,
) -> Vec<Refusal> {
    let mut found = Vec::new();
    of_all(spec, settings, &mut found);
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        of_volume(
            &format!("spec.volumes[{index}]"),
            volume,
            settings,
            &mut found,
        );
    }
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(index, container)| ("initContainers", index, container));
    let apps = spec.containers.iter().enumerate();
    let apps = apps.map(|(index, container)| ("containers", index, container));
    for (list, index, container) in init.chain(apps) {
        if list == "initContainers" && ours(container) {
            continue;
        }
        let field = format!("spec.{list}[{index}]");
        of_container(&Looked::container(field, container), settings, &mut found);
    }
    found
}

/// All that is wrong with the debug containers of a running pod.
pub(super) fn of_ephemeral(spec: &PodSpec, settings: &Settings) -> Vec<Refusal> {
    let mut found = Vec::new();
    let containers = spec.ephemeral_containers.iter().flatten().enumerate();
    for (index, container) in containers {
        let field = format!("spec.ephemeralContainers[{index}]");
        if container.target_container_name.as_deref() == Some(RELAY) {
            found.push(Refusal::new(
                "token_elsewhere",
                format!("{field}.targetContainerName"),
                "a debug container that sees the relay's processes can read its token: target another container",
            ));
        }
        of_container(&Looked::ephemeral(field, container), settings, &mut found);
    }
    found
}

/// What holds for the pod as a whole.
fn of_all(spec: &PodSpec, settings: &Settings, found: &mut Vec<Refusal>) {
    let left_alone = format!("or leave the pod alone with the annotation {INJECT}=disabled");
    let shared = [
        (
            spec.host_network,
            "host_network",
            "hostNetwork",
            "its connections are those of the node",
        ),
        (
            spec.host_pid,
            "host_pid",
            "hostPID",
            "it sees the relay's process, and so its token",
        ),
        (
            spec.share_process_namespace,
            "shared_process_namespace",
            "shareProcessNamespace",
            "its containers see the relay's process, and so its token",
        ),
    ];
    for (set, code, field, why) in shared {
        if set == Some(true) {
            let message = format!("{why}: remove it, {left_alone}.");
            found.push(Refusal::new(code, format!("spec.{field}"), message));
        }
    }
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        let message = format!("the relay runs on Linux only: {left_alone}.");
        found.push(Refusal::new("unsupported_os", "spec.os.name", message));
    }
    let Some(context) = &spec.security_context else {
        return;
    };
    let at = |name: &str| format!("spec.securityContext.{name}");
    owner(
        &at("runAsUser"),
        context.run_as_user,
        settings.relay_uid,
        "relay_uid",
        found,
    );
    let gid = settings.relay_gid;
    owner(
        &at("runAsGroup"),
        context.run_as_group,
        gid,
        "relay_gid",
        found,
    );
    owner(&at("fsGroup"), context.fs_group, gid, "relay_gid", found);
    for group in context.supplemental_groups.iter().flatten() {
        owner(
            &at("supplementalGroups"),
            Some(*group),
            gid,
            "relay_gid",
            found,
        );
    }
}

fn owner(
    field: &str,
    value: Option<i64>,
    relay: u32,
    code: &'static str,
    found: &mut Vec<Refusal>,
) {
    if value == Some(i64::from(relay)) {
        let message = format!(
            "{relay} is the relay's, whose connections are not redirected: take another number."
        );
        found.push(Refusal::new(code, field, message));
    }
}

fn of_container(container: &Looked<'_>, settings: &Settings, found: &mut Vec<Refusal>) {
    let field = &container.field;
    if [RELAY, REDIRECT].contains(&container.name) {
        let message = format!(
            "the name `{}` is reserved for what injection adds: rename the container.",
            container.name
        );
        found.push(Refusal::new(
            "reserved_name",
            format!("{field}.name"),
            message,
        ));
    }
    for port in &container.ports {
        let ports = settings.ports;
        if [ports.http, ports.redirected, ports.health]
            .map(i32::from)
            .contains(port)
        {
            let message = format!(
                "the relay listens on port {port}: use another port, or give the relay others with `injection.ports`."
            );
            found.push(Refusal::new(
                "port_taken",
                format!("{field}.ports"),
                message,
            ));
        }
    }
    for mount in container.mounts {
        of_mount(field, mount, found);
    }
    if let Some(context) = container.context {
        of_context(
            &format!("{field}.securityContext"),
            context,
            settings,
            found,
        );
    }
}

fn of_mount(field: &str, mount: &VolumeMount, found: &mut Vec<Refusal>) {
    let field = format!("{field}.volumeMounts");
    // The roots are public, and are mounted in apps by injection itself.
    let reserved = VOLUMES.contains(&mount.name.as_str()) && mount.name != CA_VOLUME;
    if reserved {
        let message = format!(
            "the volume `{}` is for the relay alone: remove the mount.",
            mount.name
        );
        let code = if mount.name == TOKEN_VOLUME {
            "token_elsewhere"
        } else {
            "reserved_name"
        };
        found.push(Refusal::new(code, field, message));
    } else if mount.name != CA_VOLUME && within(&mount.mount_path, CA_PATH) {
        let message = format!(
            "injection mounts the trusted roots at {CA_PATH}: mount `{}` elsewhere.",
            mount.name
        );
        found.push(Refusal::new("reserved_path", field, message));
    }
}

fn of_context(
    field: &str,
    context: &SecurityContext,
    settings: &Settings,
    found: &mut Vec<Refusal>,
) {
    if context.privileged == Some(true) {
        let message = "a privileged container can remove the redirection and read the relay's token: \
                       set privileged to false and add the one capability that it needs.";
        found.push(Refusal::new(
            "privileged",
            format!("{field}.privileged"),
            message,
        ));
    }
    let uid = settings.relay_uid;
    owner(
        &format!("{field}.runAsUser"),
        context.run_as_user,
        uid,
        "relay_uid",
        found,
    );
    let gid = settings.relay_gid;
    owner(
        &format!("{field}.runAsGroup"),
        context.run_as_group,
        gid,
        "relay_gid",
        found,
    );
    let added = context.capabilities.iter().flat_map(added);
    for capability in added {
        let message = format!(
            "with {capability} it can get round the relay: remove it from `add`, or move what needs it to a pod of its own."
        );
        let field = format!("{field}.capabilities.add");
        found.push(Refusal::new("capability", field, message));
    }
}

/// The capabilities of ours that a container adds. Container runtimes take them in any case.
fn added(capabilities: &Capabilities) -> impl Iterator<Item = &'static str> {
    CAPABILITIES.into_iter().filter(|name| {
        let mut added = capabilities.add.iter().flatten();
        added.any(|added| {
            let added = added.to_ascii_uppercase();
            added.strip_prefix("CAP_").unwrap_or(&added) == *name
        })
    })
}

fn of_volume(field: &str, volume: &Volume, settings: &Settings, found: &mut Vec<Refusal>) {
    let projected = volume
        .projected
        .iter()
        .flat_map(|it| it.sources.iter().flatten());
    let has_token = projected
        .filter_map(|source| source.service_account_token.as_ref())
        .any(|token| token.audience.as_deref() == Some(settings.audience.as_str()));
    if has_token && volume.name != TOKEN_VOLUME {
        let message = format!(
            "a token for `{}` is for the relay alone: remove this source of the volume `{}`.",
            settings.audience, volume.name
        );
        found.push(Refusal::new(
            "token_elsewhere",
            format!("{field}.projected"),
            message,
        ));
    }
    let Some(node) = &volume.host_path else {
        return;
    };
    let path = &plain(&node.path);
    if NODE_PATHS
        .iter()
        .any(|reserved| within(path, reserved) || within(reserved, path))
    {
        let message = format!(
            "under {} of a node, tokens of its pods can be read: mount a narrower folder, \
             or leave the pod alone with the annotation {INJECT}=disabled.",
            if path.is_empty() { "/" } else { path }
        );
        found.push(Refusal::new(
            "host_path",
            format!("{field}.hostPath"),
            message,
        ));
    }
}

/// A path without empty parts and parts that stay where they are; Kubernetes admits no `..`. The root is empty.
fn plain(path: &str) -> String {
    let parts = path.split('/').filter(|part| !["", "."].contains(part));
    parts.fold(String::new(), |plain, part| plain + "/" + part)
}

/// Whether a path is a folder or lies in it.
fn within(path: &str, folder: &str) -> bool {
    plain(path)
        .strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Also for a volume that has a name of ours and is none.
pub(super) fn reserved_volume(index: usize, name: &str) -> Refusal {
    let message =
        format!("the name `{name}` is reserved for what injection adds: rename the volume.");
    Refusal::new(
        "reserved_name",
        format!("spec.volumes[{index}].name"),
        message,
    )
}
