//! The one function that injects: what a pod is after it, or why it is not injected. Webhook and policy come from it.

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::{
    hazards,
    names::{CLIENT, INJECTED, INJECTED_BECAUSE, MIRROR, POSITION, REDIRECT, RELAY, VOLUMES},
    outcome::{Injection, LeftAlone, NotInjected, Refusal, patch},
    parts,
    settings::{Mode, NamespaceFacts, Settings},
    variables::Variables,
    wishes::{Position, Wishes},
};

/// Injects a pod: gives it a relay, and what its containers need to use it.
///
/// It depends on its arguments alone. A pod that it made is left alone by it; one that somebody changed since gets back
/// what it lacks.
///
/// # Errors
/// When the pod runs as it is, or must not run; then with all that is wrong.
pub fn inject(
    pod: &Value,
    namespace: &NamespaceFacts,
    settings: &Settings,
) -> Result<Injection, NotInjected> {
    left_alone(pod, namespace, settings).map_or(Ok(()), |why| Err(NotInjected::LeftAlone(why)))?;
    let typed = typed(pod).map_err(|refusal| NotInjected::Refused(vec![refusal]))?;
    let mut refusals = Vec::new();
    let wishes = Wishes::read(pod, namespace, settings, &mut refusals);
    if wishes.out && refusals.is_empty() {
        if namespace.allows_opt_out() {
            return Err(NotInjected::LeftAlone(LeftAlone::OptedOut));
        }
        refusals.push(opt_out_not_allowed(namespace));
        return Err(NotInjected::Refused(refusals));
    }
    let spec = typed.spec.unwrap_or_default();
    refusals.extend(hazards::of_pod(&spec, settings, |container| {
        is_ours(container, settings)
    }));
    refusals.extend(reserved_volumes(pod, settings));
    let mut after = pod.clone();
    let mut warnings = warnings(&spec, settings, wishes.mode);
    if let Err(refusal) = add_containers(&mut after, settings, &wishes) {
        refusals.push(refusal);
    }
    if !refusals.is_empty() {
        return Err(NotInjected::Refused(refusals));
    }
    add_volumes(&mut after, settings);
    equip_containers(&mut after, settings, &wishes, &mut warnings);
    note(&mut after, &wishes);
    let patch = patch(pod, &after);
    if patch.is_empty() {
        return Err(NotInjected::LeftAlone(LeftAlone::AlreadyInjected));
    }
    Ok(Injection {
        pod: after,
        mode: wishes.mode,
        because: wishes.because,
        warnings,
        patch,
    })
}

/// Whether a pod is none of ours, whatever is in it.
fn left_alone(pod: &Value, namespace: &NamespaceFacts, settings: &Settings) -> Option<LeftAlone> {
    if [settings.own_namespace.as_str(), "kube-system"].contains(&namespace.name.as_str()) {
        return Some(LeftAlone::SystemNamespace);
    }
    if !namespace.is_opted_in() {
        return Some(LeftAlone::NamespaceNotOptedIn);
    }
    let mirror = pod["metadata"]["annotations"].get(MIRROR).is_some();
    mirror.then_some(LeftAlone::MirrorPod)
}

fn typed(pod: &Value) -> Result<Pod, Refusal> {
    let malformed = |message| Refusal::new("pod_malformed", "pod", message);
    let typed: Pod = serde_json::from_value(pod.clone())
        .map_err(|error| malformed(format!("it cannot be read as a Pod: {error}")))?;
    if typed
        .spec
        .as_ref()
        .is_none_or(|spec| spec.containers.is_empty())
    {
        return Err(malformed(
            "it has no container: name at least one".to_owned(),
        ));
    }
    Ok(typed)
}

fn opt_out_not_allowed(namespace: &NamespaceFacts) -> Refusal {
    Refusal::new(
        "opt_out_not_allowed",
        "metadata.annotations[countersign.dev/inject]",
        format!(
            "pods of this namespace may not be left alone: remove the annotation, or let an administrator run \
             `kubectl label namespace {} countersign.dev/opt-out=allowed`.",
            namespace.name
        ),
    )
}

/// Whether a container is the one that injection made, of this or another version.
fn is_ours(container: &Container, settings: &Settings) -> bool {
    let expected = match container.name.as_str() {
        RELAY => &settings.relay_image,
        REDIRECT => &settings.redirect_image,
        _ => return false,
    };
    let image = container.image.as_deref().unwrap_or_default();
    repository(image) == repository(expected)
}

/// An image without its tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    let name_at = image.rfind('/').map_or(0, |slash| slash + 1);
    match image[name_at..].find(':') {
        Some(colon) => &image[..name_at + colon],
        None => image,
    }
}

/// Volumes that have a name of ours and are none of ours.
fn reserved_volumes(pod: &Value, settings: &Settings) -> Vec<Refusal> {
    let ours = parts::volumes(settings);
    let volumes = pod["spec"]["volumes"].as_array();
    let volumes = volumes.into_iter().flatten().enumerate();
    let taken = volumes.filter_map(|(index, volume)| {
        let name = volume["name"].as_str()?;
        let reserved = VOLUMES.contains(&name) && !ours.iter().any(|ours| has_all(volume, ours));
        reserved.then(|| hazards::reserved_volume(index, name))
    });
    taken.collect()
}

/// Whether a value has all that another has; the API server and other webhooks add defaults.
fn has_all(value: &Value, expected: &Value) -> bool {
    match (value, expected) {
        (Value::Object(value), Value::Object(expected)) => expected
            .iter()
            .all(|(key, expected)| value.get(key).is_some_and(|value| has_all(value, expected))),
        (Value::Array(value), Value::Array(expected)) => {
            // What another webhook adds to a list comes after ours.
            value.len() >= expected.len()
                && value
                    .iter()
                    .zip(expected)
                    .all(|(value, expected)| has_all(value, expected))
        }
        _ => value == expected,
    }
}

/// Puts relay and redirecting init container in their place. Ones that are there and have all they need stay as they
/// are; others of ours are made anew.
fn add_containers(pod: &mut Value, settings: &Settings, wishes: &Wishes) -> Result<(), Refusal> {
    let spec = &mut pod["spec"];
    let grace = spec["terminationGracePeriodSeconds"].as_i64();
    let drain = format!("{}s", parts::drain_seconds(grace));
    let with_resources = spec["resources"].is_null();
    let mut wanted = vec![parts::relay(settings, &drain, with_resources)];
    if wishes.mode == Mode::Redirect {
        wanted.insert(0, parts::redirect(settings, with_resources));
    }
    let present = spec["initContainers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let is_named = |container: &Value| {
        [RELAY, REDIRECT]
            .iter()
            .any(|name| container["name"] == *name)
    };
    let ours: Vec<_> = wanted
        .into_iter()
        .map(|wanted| {
            let found = present.iter().find(|it| it["name"] == wanted["name"]);
            let found = found.filter(|found| is_like(found, &wanted));
            found.cloned().unwrap_or(wanted)
        })
        .collect();
    let mut others: Vec<_> = present.iter().filter(|it| !is_named(it)).cloned().collect();
    let at = match &wishes.position {
        Position::First => 0,
        Position::Last => others.len(),
        Position::After(name) => {
            let found = others.iter().position(|it| it["name"] == *name);
            found.map(|index| index + 1).ok_or_else(|| {
                Refusal::new(
                    "annotation_invalid",
                    format!("metadata.annotations[{POSITION}]"),
                    format!("there is no init container `{name}`: name one of the pod's."),
                )
            })?
        }
    };
    others.splice(at..at, ours);
    spec["initContainers"] = Value::Array(others);
    Ok(())
}

/// Whether a container of ours is as it should be. Nobody may have added a capability.
fn is_like(found: &Value, wanted: &Value) -> bool {
    has_all(found, wanted)
        && found["args"] == wanted["args"]
        && found["command"].is_null()
        && found["securityContext"]["capabilities"] == wanted["securityContext"]["capabilities"]
}

fn add_volumes(pod: &mut Value, settings: &Settings) {
    let volumes = list(&mut pod["spec"]["volumes"]);
    for volume in parts::volumes(settings) {
        if !volumes
            .iter()
            .any(|present| present["name"] == volume["name"])
        {
            volumes.push(volume);
        }
    }
}

/// Gives variables and roots to each container of the app, and to each init container after the relay.
fn equip_containers(
    pod: &mut Value,
    settings: &Settings,
    wishes: &Wishes,
    warnings: &mut Vec<String>,
) {
    let variables = Variables::of(settings).with(&wishes.kept, &wishes.dummies);
    let mut relay_seen = false;
    for container in list(&mut pod["spec"]["initContainers"]) {
        let ours = container["name"] == RELAY || container["name"] == REDIRECT;
        if relay_seen && !ours {
            equip(container, &variables, wishes, warnings);
        }
        relay_seen |= container["name"] == RELAY;
    }
    for container in list(&mut pod["spec"]["containers"]) {
        equip(container, &variables, wishes, warnings);
    }
}

fn equip(
    container: &mut Value,
    variables: &Variables,
    wishes: &Wishes,
    warnings: &mut Vec<String>,
) {
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    let replaced = variables.set(container, &wishes.kept);
    let is_dummy = |name: &String| wishes.dummies.iter().any(|(dummy, _)| dummy == name);
    let replaced: Vec<_> = replaced.into_iter().filter(|it| !is_dummy(it)).collect();
    if !replaced.is_empty() {
        warnings.push(format!(
            "container {name}: replaced its own {}; countersign.dev/keep-env keeps them",
            replaced.join(", ")
        ));
    }
    let mounts = list(&mut container["volumeMounts"]);
    let mount = parts::ca_mount();
    if !mounts.iter().any(|present| has_all(present, &mount)) {
        mounts.push(mount);
    }
    if wishes.mode == Mode::Redirect {
        drop_raw(container);
    }
}

/// Container runtimes give `NET_RAW` to those that do not drop it, and the rules do not see raw packets.
fn drop_raw(container: &mut Value) {
    let drop = &mut container["securityContext"]["capabilities"]["drop"];
    let dropped = list(drop);
    let has = |names: &[&str]| {
        dropped.iter().any(|dropped| {
            let dropped = dropped.as_str().unwrap_or_default().to_ascii_uppercase();
            names.contains(&dropped.as_str())
        })
    };
    if !has(&["ALL", "NET_RAW", "CAP_NET_RAW"]) {
        dropped.push(json!("NET_RAW"));
    }
}

/// Writes what was done on the pod itself.
fn note(pod: &mut Value, wishes: &Wishes) {
    pod["metadata"]["labels"][CLIENT] = json!("true");
    let annotations = &mut pod["metadata"]["annotations"];
    annotations[INJECTED] = json!(wishes.mode.as_str());
    annotations[INJECTED_BECAUSE] = json!(wishes.because);
}

/// What does not keep a pod from running, and may keep it from working.
fn warnings(
    spec: &k8s_openapi::api::core::v1::PodSpec,
    settings: &Settings,
    mode: Mode,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(policy @ ("Default" | "None")) = spec.dns_policy.as_deref() {
        warnings.push(format!(
            "dnsPolicy {policy}: the relay may not find {}",
            settings.gateways.join(", ")
        ));
    }
    if mode == Mode::Redirect {
        let pod_non_root = spec
            .security_context
            .as_ref()
            .and_then(|it| it.run_as_non_root);
        for container in &spec.containers {
            let context = container.security_context.as_ref();
            let non_root = context.and_then(|it| it.run_as_non_root).or(pod_non_root);
            let drops = context.and_then(|it| it.capabilities.as_ref()?.drop.as_ref());
            let drops =
                drops.is_some_and(|drops| drops.iter().any(|it| it.eq_ignore_ascii_case("ALL")));
            if non_root != Some(true) && !drops {
                warnings.push(format!(
                    "container {}: as root it can take the relay's uid and pass the redirection; set runAsNonRoot",
                    container.name
                ));
            }
        }
    }
    warnings
}

/// A list in the pod, made if there is none.
fn list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = json!([]);
    }
    let Value::Array(list) = value else {
        unreachable!("it was just made")
    };
    list
}
