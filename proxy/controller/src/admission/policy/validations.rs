//! What must not run, as expressions: the pod after its injection, or a debug container.

use serde_json::{Value, json};

use super::super::{
    cel::{literal, quoted},
    hazards::{CAPABILITIES, NODE_PATHS},
    names::{
        CA_PATH, CA_VOLUME, INJECT, KEEP_ENV, MODE, POSITION, REDIRECT, RELAY, TOKEN_VOLUME,
        VOLUMES,
    },
    settings::Settings,
};
use super::{MOST_CONTAINERS, or_empty};

/// The variables of the validations.
pub(super) fn variables() -> Vec<(&'static str, String)> {
    let ours = format!("c.name in [{}, {}]", quoted(RELAY), quoted(REDIRECT));
    vec![
        ("annotations", or_empty("object.metadata.annotations", "{}")),
        ("init", or_empty("object.spec.initContainers", "[]")),
        ("debug", or_empty("object.spec.ephemeralContainers", "[]")),
        ("volumes", or_empty("object.spec.volumes", "[]")),
        ("ours", format!("variables.init.filter(c, {ours})")),
        // All containers that are not ours.
        (
            "others",
            format!(
                "variables.init.filter(c, !({ours})) + object.spec.containers + variables.debug"
            ),
        ),
        ("security", or_empty("object.spec.securityContext", "{}")),
        (
            "contexts",
            "variables.others.filter(c, has(c.securityContext)).map(c, c.securityContext)"
                .to_owned(),
        ),
    ]
}

/// Each validation, its code in its message.
pub(super) fn all(settings: &Settings) -> Vec<Value> {
    let mut all = Vec::new();
    let mut add = |code: &str, expression: String, message: &str| {
        all.push(json!({
            "expression": expression,
            "message": format!("countersign does not admit this pod: {message} ({code})"),
            "reason": "Forbidden",
        }));
    };
    shared_with_the_relay(settings, &mut add);
    privileges(&mut add);
    tokens(settings, &mut add);
    reserved(&mut add);
    places(settings, &mut add);
    annotations(&mut add);
    relay(settings, &mut add);
    all
}

/// What of the node, or of the relay, a pod must not share.
fn shared_with_the_relay(settings: &Settings, add: &mut impl FnMut(&str, String, &str)) {
    let (uid, gid) = (settings.relay_uid, settings.relay_gid);
    for (code, field) in [
        ("host_network", "hostNetwork"),
        ("host_pid", "hostPID"),
        ("shared_process_namespace", "shareProcessNamespace"),
    ] {
        let path = format!("object.spec.{field}");
        add(
            code,
            format!("!(has({path}) && {path})"),
            &format!("remove spec.{field}, by which it gets round its relay"),
        );
    }
    add(
        "unsupported_os",
        "!(has(object.spec.os) && object.spec.os.name == 'windows')".to_owned(),
        "the relay runs on Linux only",
    );
    let none = |field: &str, number: u32| {
        format!(
            "!(has(variables.security.{field}) && variables.security.{field} == {number}) && \
                 variables.contexts.all(s, !(has(s.{field}) && s.{field} == {number}))"
        )
    };
    add(
        "relay_uid",
        none("runAsUser", uid),
        &format!("uid {uid} is the relay's: take another"),
    );
    let groups = format!(
        "{} && !(has(variables.security.fsGroup) && variables.security.fsGroup == {gid}) && \
         !(has(variables.security.supplementalGroups) && {gid} in variables.security.supplementalGroups)",
        none("runAsGroup", gid)
    );
    add(
        "relay_gid",
        groups,
        &format!("gid {gid} is the relay's: take another"),
    );
}

/// Rights by which a pod gets round its relay.
fn privileges(add: &mut impl FnMut(&str, String, &str)) {
    add(
        "privileged",
        "variables.contexts.all(s, !(has(s.privileged) && s.privileged))".to_owned(),
        "set privileged to false",
    );
    let capabilities: Vec<_> = CAPABILITIES
        .iter()
        .map(|name| format!("CAP_{name}"))
        .collect();
    let capabilities = literal(
        &json!(
            [
                CAPABILITIES.as_slice(),
                &capabilities.iter().map(String::as_str).collect::<Vec<_>>()
            ]
            .concat()
        ),
        &[],
    );
    add(
        "capability",
        format!(
            "variables.contexts.all(s, !has(s.capabilities) || !has(s.capabilities.add) || s.capabilities.add.all(a, !(a.upperAscii() in {capabilities})))"
        ),
        &format!("do not add {}", CAPABILITIES.join(", ")),
    );
}

/// Where a token for the gateway must not be.
fn tokens(settings: &Settings, add: &mut impl FnMut(&str, String, &str)) {
    let reserved: Vec<_> = VOLUMES
        .into_iter()
        .filter(|name| *name != CA_VOLUME)
        .collect();
    add(
        "token_elsewhere",
        format!(
            "variables.others.all(c, !has(c.volumeMounts) || c.volumeMounts.all(m, !(m.name in {})))",
            literal(&json!(reserved), &[])
        ),
        "the volumes of the relay are for the relay alone: remove the mount",
    );
    add(
        "token_elsewhere",
        format!(
            "variables.volumes.all(v, v.name == {} || !has(v.projected) || !has(v.projected.sources) || \
             v.projected.sources.all(s, !(has(s.serviceAccountToken) && has(s.serviceAccountToken.audience) && s.serviceAccountToken.audience == {})))",
            quoted(TOKEN_VOLUME),
            quoted(&settings.audience)
        ),
        "a token for the gateway is for the relay alone: remove this source of the volume",
    );
    add(
        "token_elsewhere",
        format!(
            "variables.debug.all(c, !(has(c.targetContainerName) && c.targetContainerName == {}))",
            quoted(RELAY)
        ),
        "a debug container must not target the relay",
    );
}

/// Names and paths of what injection adds.
fn reserved(add: &mut impl FnMut(&str, String, &str)) {
    let projected = format!(
        "variables.volumes.all(v, !(v.name == {}) || (has(v.projected) && has(v.projected.sources) && size(v.projected.sources) == 1)) && \
         variables.volumes.all(v, !(v.name in {}) || has(v.configMap))",
        quoted(TOKEN_VOLUME),
        literal(
            &json!(
                VOLUMES
                    .into_iter()
                    .filter(|name| *name != TOKEN_VOLUME)
                    .collect::<Vec<_>>()
            ),
            &[]
        )
    );
    add(
        "reserved_name",
        projected,
        &format!(
            "the names {} are reserved for what injection adds: rename the volume",
            VOLUMES.join(", ")
        ),
    );
    let name = format!(
        "object.spec.containers.all(c, !(c.name in [{0}, {1}])) && variables.debug.all(c, !(c.name in [{0}, {1}]))",
        quoted(RELAY),
        quoted(REDIRECT)
    );
    add(
        "reserved_name",
        name,
        "the names of the relay's containers are reserved: rename the container",
    );
    add(
        "reserved_path",
        format!(
            "variables.others.all(c, !has(c.volumeMounts) || c.volumeMounts.all(m, m.name == {} || !(m.mountPath == {path} || m.mountPath.startsWith({path} + '/'))))",
            quoted(CA_VOLUME),
            path = quoted(CA_PATH)
        ),
        &format!("mount nothing at {CA_PATH}"),
    );
}

/// Ports of the relay, and folders of the node.
fn places(settings: &Settings, add: &mut impl FnMut(&str, String, &str)) {
    let ports = settings.ports;
    let ports = literal(&json!([ports.http, ports.redirected, ports.health]), &[])
        .replace("dyn(", "")
        .replace(')', "");
    add(
        "port_taken",
        format!(
            "variables.others.all(c, !has(c.ports) || c.ports.all(p, !(p.containerPort in {ports})))"
        ),
        "the relay listens on one of its ports: use another",
    );
    let paths = literal(&json!(NODE_PATHS), &[]);
    add(
        "host_path",
        format!(
            "variables.volumes.filter(v, has(v.hostPath)).map(v, v.hostPath.path.endsWith('/') ? v.hostPath.path : v.hostPath.path + '/').all(h, !h.contains('//') && !h.contains('/./') && {paths}.all(p, !(h.startsWith(p + '/') || (p + '/').startsWith(h))))"
        ),
        "tokens of the node's pods can be read in this hostPath: mount a narrower folder",
    );
}

/// What the policy does not know, and values that mean nothing.
fn annotations(add: &mut impl FnMut(&str, String, &str)) {
    let unknown =
        [KEEP_ENV, POSITION].map(|name| format!("!({} in variables.annotations)", quoted(name)));
    add(
        "annotation_invalid",
        unknown.join(" && "),
        &format!("{KEEP_ENV} and {POSITION} need the webhook engine"),
    );
    let mode = quoted(MODE);
    add(
        "annotation_invalid",
        format!(
            "!({mode} in variables.annotations) || variables.annotations[{mode}] in ['proxy', 'redirect']"
        ),
        &format!("{MODE} is proxy or redirect"),
    );
    let inject = quoted(INJECT);
    add(
        "opt_out_not_allowed",
        format!(
            "!({inject} in variables.annotations) || variables.annotations[{inject}] == 'enabled'"
        ),
        "pods of this namespace may not be left alone without its label countersign.dev/opt-out=allowed",
    );
}

/// The relay is there, and is ours. A pod that runs has the one with which it was created.
fn relay(settings: &Settings, add: &mut impl FnMut(&str, String, &str)) {
    let most = MOST_CONTAINERS;
    add(
        "too_many_containers",
        format!(
            "size(object.spec.containers) <= {most} && size(variables.init) <= {}",
            most + 2
        ),
        &format!(
            "the policy knows {most} containers and {most} init containers: use the webhook engine"
        ),
    );
    let created = "request.operation != 'CREATE'";
    let image = |name: &str, image: &str| {
        format!(
            "(c.name == {} && c.image == {})",
            quoted(name),
            quoted(image)
        )
    };
    let images = [
        image(RELAY, &settings.relay_image),
        image(REDIRECT, &settings.redirect_image),
    ]
    .join(" || ");
    let capabilities = format!(
        "(c.name == {0} ? !has(c.securityContext.capabilities.add) && c.securityContext.runAsUser == {1} && c.restartPolicy == 'Always' : true)",
        quoted(RELAY),
        settings.relay_uid
    );
    add(
        "changed_after_injection",
        format!(
            "{created} || (variables.ours.exists(c, c.name == {}) && variables.ours.all(c, ({images}) && !has(c.command) && {capabilities}))",
            quoted(RELAY)
        ),
        "its relay is missing, or is not the one that injection adds",
    );
}
