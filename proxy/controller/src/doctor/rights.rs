//! The rights that gateways and controller need, each with its reason: the doctor asks for each one, and the chart
//! grants these and no others.

use serde_json::json;

use super::{
    api::{Api, Resource, Unread},
    install::Installation,
    report::Finding,
};

/// Who needs a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// The gateways' service account.
    Gateway,
    /// The controller's.
    Controller,
}

impl Who {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Controller => "controller",
        }
    }
}

/// Where a right holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In all namespaces, or of what has none.
    Cluster,
    /// In the namespace of the installation.
    Own,
    /// Where resources are read: the cluster, or the namespaces that the gateways' file names.
    Objects,
}

/// What must be switched on for a right to be needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Always,
    /// The gateways ask about pods: `podFacts`.
    PodFacts,
    /// They count each other: `service`.
    Service,
    /// They read resources of the cluster: `resources: kubernetes`.
    Objects,
    /// Their certificates come from the controller.
    Trust,
    /// The webhook injects pods.
    Webhook,
}

/// A right, or several of the same reason.
#[derive(Debug, Clone, Copy)]
pub struct Right {
    /// Who needs it.
    pub who: Who,
    /// The API group.
    pub group: &'static str,
    /// The resource, with its subresource; or a path that is no resource.
    pub resource: &'static str,
    /// The verbs.
    pub verbs: &'static [&'static str],
    /// The names to which it is limited; empty for all.
    pub names: &'static [&'static str],
    /// Where.
    pub scope: Scope,
    /// What must be switched on.
    pub need: Need,
    /// What for.
    pub why: &'static str,
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const COUNTERSIGN: &str = "countersign.dev";
const READ: &[&str] = &["get", "list", "watch"];
const FOLLOW: &[&str] = &["list", "watch"];

const fn row(
    who: Who,
    (group, resource): (&'static str, &'static str),
    verbs: &'static [&'static str],
    names: &'static [&'static str],
    (scope, need): (Scope, Need),
    why: &'static str,
) -> Right {
    Right {
        who,
        group,
        resource,
        verbs,
        names,
        scope,
        need,
        why,
    }
}

use {
    Need::{Always, Objects, PodFacts, Service, Trust, Webhook},
    Scope::{Cluster, Objects as In, Own},
    Who::{Controller, Gateway},
};

/// All rights.
#[rustfmt::skip]
pub const RIGHTS: &[Right] = &[
    row(Gateway, ("authentication.k8s.io", "tokenreviews"), &["create"], &[], (Cluster, Always),
        "whether a pod's token still holds"),
    row(Gateway, ("", "/openid/v1/jwks"), &["get"], &[], (Cluster, Always),
        "the keys by which pods' tokens are signed"),
    row(Gateway, ("", "pods"), FOLLOW, &[], (Cluster, PodFacts),
        "the labels, images and end of callers' pods"),
    row(Gateway, ("batch", "jobs"), FOLLOW, &[], (Cluster, PodFacts),
        "the CronJob of a caller's Job"),
    row(Gateway, ("discovery.k8s.io", "endpointslices"), FOLLOW, &[], (Own, Service),
        "how many gateways share a rate"),
    row(Gateway, (COUNTERSIGN, "workloads"), FOLLOW, &[], (In, Objects),
        "what operators write, and changes of it"),
    row(Gateway, (COUNTERSIGN, "credentials"), FOLLOW, &[], (In, Objects),
        "what operators write, and changes of it"),
    row(Gateway, (COUNTERSIGN, "accesspolicies"), FOLLOW, &[], (In, Objects),
        "what operators write, and changes of it"),
    row(Gateway, (COUNTERSIGN, "targetservices"), FOLLOW, &[], (In, Objects),
        "what operators write, and changes of it"),
    row(Gateway, (COUNTERSIGN, "workloads/status"), &["patch"], &[], (In, Objects),
        "tells what became of each object"),
    row(Gateway, (COUNTERSIGN, "credentials/status"), &["patch"], &[], (In, Objects),
        "tells what became of each object"),
    row(Gateway, (COUNTERSIGN, "accesspolicies/status"), &["patch"], &[], (In, Objects),
        "tells what became of each object"),
    row(Gateway, (COUNTERSIGN, "targetservices/status"), &["patch"], &[], (In, Objects),
        "tells what became of each object"),
    row(Gateway, ("coordination.k8s.io", "leases"), &["create"], &[], (Own, Objects),
        "one gateway writes the statuses; what is created has no name for RBAC yet"),
    row(Gateway, ("coordination.k8s.io", "leases"), &["get", "update"], &["countersign-status"], (Own, Objects),
        "one gateway writes the statuses"),
    row(Gateway, (CERTIFICATES, "certificatesigningrequests"), &["create", "get", "list", "watch"], &[], (Cluster, Trust),
        "asks for its own certificates, whose keys never leave it; it can neither approve nor sign"),
    row(Gateway, ("", "configmaps"), READ, &["countersign-trust"], (Own, Trust),
        "learns that a root was rotated"),

    row(Controller, ("", "namespaces"), READ, &[], (Cluster, Always),
        "which namespaces have opted in"),
    row(Controller, ("", "pods"), &["list"], &[], (Cluster, Always),
        "finds pods that run without a relay, or still trust a root that is going to be removed"),
    row(Controller, ("events.k8s.io", "events"), &["create", "patch"], &[], (Cluster, Always),
        "tells the owner of a pod that it runs without a relay"),
    row(Controller, ("coordination.k8s.io", "leases"), &["create"], &[], (Own, Always),
        "one controller of several leads; what is created has no name for RBAC yet"),
    row(Controller, ("coordination.k8s.io", "leases"), &["get", "update"], &["countersign-controller"], (Own, Always),
        "one controller of several leads"),
    row(Controller, ("networking.k8s.io", "servicecidrs"), &["list"], &[], (Cluster, Webhook),
        "the ranges of Services, which pods reach without the relay"),
    row(Controller, ("", "nodes"), &["list"], &[], (Cluster, Webhook),
        "the ranges of pods, which pods reach without the relay"),
    row(Controller, (ADMISSION, "mutatingwebhookconfigurations"), &["get", "update"], &["countersign-injection"], (Cluster, Webhook),
        "writes the CA of the webhook's certificate into it, when that is renewed"),
    row(Controller, (ADMISSION, "validatingwebhookconfigurations"), &["get", "update"], &["countersign-injection"], (Cluster, Webhook),
        "writes the CA of the webhook's certificate into it, when that is renewed"),
    row(Controller, ("", "configmaps"), &["create"], &[], (Cluster, Trust),
        "publishes roots in opted-in namespaces; what is created has no name for RBAC yet"),
    row(Controller, ("", "configmaps"), &["get", "list", "watch", "patch"],
        &["countersign-ca", "countersign-gateway-ca"], (Cluster, Trust),
        "keeps the published roots as they must be"),
    row(Controller, (CERTIFICATES, "certificatesigningrequests"), READ, &[], (Cluster, Trust),
        "sees what gateways ask for"),
    row(Controller, (CERTIFICATES, "certificatesigningrequests/approval"), &["update"], &[], (Cluster, Trust),
        "approves what a gateway may have"),
    row(Controller, (CERTIFICATES, "certificatesigningrequests/status"), &["update"], &[], (Cluster, Trust),
        "writes the certificate"),
    row(Controller, (CERTIFICATES, "signers"), &["approve", "sign"],
        &["countersign.dev/interception", "countersign.dev/gateway"], (Cluster, Trust),
        "approves and signs for our own two signers, and for no other"),
    row(Controller, (CERTIFICATES, "signers"), &["attest"], &["countersign.dev/interception"], (Cluster, Trust),
        "publishes the ClusterTrustBundle of our signer"),
    row(Controller, (CERTIFICATES, "clustertrustbundles"), &["create"], &[], (Cluster, Trust),
        "publishes the root as a ClusterTrustBundle where it is served"),
    row(Controller, (CERTIFICATES, "clustertrustbundles"), &["patch"], &["countersign.dev:interception:roots"], (Cluster, Trust),
        "keeps the ClusterTrustBundle as it must be"),
    row(Controller, ("", "secrets"), &["create"], &[], (Own, Trust),
        "keeps the roots' keys; what is created has no name for RBAC yet"),
    row(Controller, ("", "secrets"), &["get", "list", "watch", "update"],
        &["countersign-trust", "countersign-webhook"], (Own, Trust),
        "the roots' keys and the webhook's, which nobody else reads"),
    row(Controller, ("", "configmaps"), &["create"], &[], (Own, Trust),
        "tells gateways which roots are in force"),
    row(Controller, ("", "configmaps"), &["get", "list", "watch", "patch"], &["countersign-trust"], (Own, Trust),
        "tells gateways which roots are in force"),
    row(Controller, ("discovery.k8s.io", "endpointslices"), &["list"], &[], (Own, Trust),
        "before a root is removed: whether each gateway has a certificate of the next"),
];

/// The rights that an installation needs.
pub(super) fn needed(installation: &Installation) -> impl Iterator<Item = &'static Right> {
    let spec = &installation.gateway_file["spec"];
    let issuers = spec["identity"]["issuers"].as_array();
    let pod_facts = issuers.is_none_or(|all| all.iter().any(|it| it["podFacts"] == true));
    let service = !spec["service"].is_null();
    let mut sources = spec["resources"].as_array().into_iter().flatten();
    let objects = sources.any(|source| source.get("kubernetes").is_some());
    let trust = !spec["interception"]["issuer"].is_null();
    let command = &installation.controller["spec"]["template"]["spec"]["containers"][0]["args"];
    let mut arguments = command.as_array().into_iter().flatten();
    let policy = arguments.any(|it| it.as_str().is_some_and(|it| it.contains("admissionPolicy")));
    let has_controller = !installation.controller.is_null();
    RIGHTS.iter().filter(move |right| {
        (right.who == Gateway || has_controller)
            && match right.need {
                Always => true,
                PodFacts => pod_facts,
                Service => service,
                Objects => objects,
                Trust => trust,
                Webhook => trust && !policy,
            }
    })
}

const REVIEWS: Resource = Resource::new("authorization.k8s.io", "v1", "subjectaccessreviews");
const OWN_REVIEWS: Resource =
    Resource::new("authorization.k8s.io", "v1", "selfsubjectaccessreviews");
const WHO_AM_I: Resource = Resource::new("authentication.k8s.io", "v1", "selfsubjectreviews");

/// Asks for each right.
pub(super) async fn check(api: &Api, installation: &Installation) -> Vec<Finding> {
    let mut findings = Vec::new();
    let own_name = own_name(api).await;
    for (who, deployment) in [
        (Gateway, &installation.gateway),
        (Controller, &installation.controller),
    ] {
        if deployment.is_null() {
            continue;
        }
        let account = Installation::account(deployment).unwrap_or("default");
        let user = User::new(&installation.namespace, account, own_name.as_deref());
        let rights = needed(installation).filter(|right| right.who == who);
        let mut granted = 0;
        let mut problems = Vec::new();
        for right in rights {
            match missing(api, &user, right, &places(right, installation)).await {
                Ok(missing) if missing.is_empty() => granted += right.verbs.len(),
                Ok(missing) => problems.push(lacks(right, &missing, &user)),
                Err(why) => {
                    let what = format!("what the {} may", who.as_str());
                    problems = vec![Finding::unknown("rights", &what, &why)];
                    break;
                }
            }
        }
        if problems.is_empty() {
            let text = format!(
                "the {} has the {granted} rights that it needs",
                who.as_str()
            );
            problems.push(Finding::fine("rights", text));
        }
        findings.append(&mut problems);
    }
    findings
}

/// Who asks; `None` where the API server does not tell.
async fn own_name(api: &Api) -> Option<String> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = api.create(WHO_AM_I, "", &review, false).await.ok()?;
    let name = &answer.body["status"]["userInfo"]["username"];
    name.as_str().map(str::to_owned)
}

struct User {
    name: String,
    groups: [String; 3],
    /// It is the one who asks, who may always ask about itself.
    is_self: bool,
}

impl User {
    fn new(namespace: &str, account: &str, own: Option<&str>) -> Self {
        let name = format!("system:serviceaccount:{namespace}:{account}");
        Self {
            is_self: own == Some(&name),
            name,
            groups: [
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
        }
    }
}

/// The namespaces in which a right must hold; an empty one is the cluster.
fn places(right: &Right, installation: &Installation) -> Vec<String> {
    match right.scope {
        Cluster => vec![String::new()],
        Own => vec![installation.namespace.clone()],
        In => {
            let sources = installation.gateway_file["spec"]["resources"].as_array();
            let namespaces = sources.into_iter().flatten().find_map(|source| {
                let namespaces = source["kubernetes"]["namespaces"].as_array()?;
                let names = namespaces.iter().filter_map(|it| it.as_str());
                Some(names.map(str::to_owned).collect::<Vec<_>>())
            });
            namespaces.unwrap_or_else(|| vec![String::new()])
        }
    }
}

/// The verbs, with names and namespaces, that are not granted.
async fn missing(
    api: &Api,
    user: &User,
    right: &Right,
    places: &[String],
) -> Result<Vec<String>, Unread> {
    let names = if right.names.is_empty() {
        &[""][..]
    } else {
        right.names
    };
    let mut missing = Vec::new();
    for place in places {
        for verb in right.verbs {
            for name in names {
                if may(api, user, right, verb, name, place).await? {
                    continue;
                }
                let name = if name.is_empty() { "" } else { name };
                let place = match (right.scope, place.as_str()) {
                    (In, place) if !place.is_empty() => format!("in {place}"),
                    _ => String::new(),
                };
                let words = [verb, name, place.as_str()].into_iter();
                let words: Vec<_> = words.filter(|it| !it.is_empty()).collect();
                missing.push(words.join(" "));
            }
        }
    }
    Ok(missing)
}

async fn may(
    api: &Api,
    user: &User,
    right: &Right,
    verb: &str,
    name: &str,
    namespace: &str,
) -> Result<bool, Unread> {
    let mut spec = if right.resource.starts_with('/') {
        json!({"nonResourceAttributes": {"path": right.resource, "verb": verb}})
    } else {
        let (resource, subresource) = match right.resource.split_once('/') {
            Some((resource, subresource)) => (resource, subresource),
            None => (right.resource, ""),
        };
        json!({"resourceAttributes": {
            "group": right.group, "resource": resource, "subresource": subresource,
            "verb": verb, "name": name, "namespace": namespace,
        }})
    };
    let (resource, kind) = if user.is_self {
        (OWN_REVIEWS, "SelfSubjectAccessReview")
    } else {
        spec["user"] = user.name.clone().into();
        spec["groups"] = json!(user.groups);
        (REVIEWS, "SubjectAccessReview")
    };
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
    let answer = api.create(resource, "", &review, false).await?;
    match answer.status.as_u16() {
        200..300 => Ok(answer.body["status"]["allowed"] == true),
        401 => Err(Unread::Unauthorized),
        403 => Err(Unread::Forbidden(
            "create".to_owned(),
            resource.qualified(),
            String::new(),
        )),
        status => Err(Unread::Refused(status, answer.message())),
    }
}

fn lacks(right: &Right, missing: &[String], user: &User) -> Finding {
    let dot = if right.group.is_empty() { "" } else { "." };
    let resource = format!("{}{dot}{}", right.resource, right.group);
    Finding::failed(
        "rights",
        format!(
            "the {} may not {} {resource}, which it needs: {}",
            right.who.as_str(),
            missing.join(", "),
            right.why
        ),
        format!(
            "helm upgrade with rbac.create=true, or grant it to {}",
            user.name
        ),
    )
}
