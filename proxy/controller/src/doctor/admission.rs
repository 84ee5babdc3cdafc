//! What injects pods: the webhook, or the API server's own policy; one of them, and not both.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign_core::certificate::Validity;
use jiff::Timestamp;
use serde_json::Value;

use super::{
    api::{Api, Resource, Unread},
    definitions::within,
    install::Installation,
    report::Finding,
};
use crate::admission::webhooks::{self, CONFIGURATION};

const GROUP: &str = "admissionregistration.k8s.io";
const MUTATING: Resource = Resource::new(GROUP, "v1", "mutatingwebhookconfigurations");
const VALIDATING: Resource = Resource::new(GROUP, "v1", "validatingwebhookconfigurations");
const POLICIES: Resource = Resource::new(GROUP, "v1", "mutatingadmissionpolicies");
const BINDINGS: Resource = Resource::new(GROUP, "v1", "mutatingadmissionpolicybindings");
const SLICES: Resource = Resource::new("discovery.k8s.io", "v1", "endpointslices");

const UPGRADE: &str = "helm upgrade, with the values of the release";

pub(super) async fn check(api: &Api, installation: &Installation, now: Timestamp) -> Vec<Finding> {
    let found = async {
        let mutating = api.get(MUTATING, "", CONFIGURATION).await?;
        let validating = api.get(VALIDATING, "", CONFIGURATION).await?;
        let policy = api.get(POLICIES, "", CONFIGURATION).await?;
        let binding = api.get(BINDINGS, "", CONFIGURATION).await?;
        Ok::<_, Unread>((mutating, validating, policy, binding))
    };
    let (mutating, validating, policy, binding) = match found.await {
        Ok(found) => found,
        Err(why) => return vec![Finding::unknown("engine", "what injects pods", &why)],
    };
    match (&mutating, &validating, &policy) {
        (None, None, None) => vec![Finding::failed(
            "engine",
            "nothing injects pods: there is neither the webhook nor the admission policy",
            format!("{UPGRADE}: injection.engine is webhook or admissionPolicy"),
        )],
        (None, None, Some(_)) if binding.is_none() => vec![Finding::failed(
            "engine",
            format!(
                "the admission policy {CONFIGURATION} is bound to nothing, so it injects no pod"
            ),
            UPGRADE,
        )],
        (None, None, Some(_)) => vec![Finding::fine(
            "engine",
            "the API server injects pods by itself, by the admission policy",
        )],
        (_, _, Some(_)) => vec![Finding::failed(
            "engine",
            "the webhook and the admission policy both inject pods",
            format!(
                "remove one: kubectl delete mutatingwebhookconfiguration,validatingwebhookconfiguration {CONFIGURATION}"
            ),
        )],
        (Some(mutating), Some(validating), None) => {
            webhook(api, installation, [mutating, validating], now).await
        }
        (None, _, None) | (_, None, None) => vec![Finding::failed(
            "engine",
            "one of the two configurations of the webhook is missing, so pods are not injected or not checked",
            UPGRADE,
        )],
    }
}

async fn webhook(
    api: &Api,
    installation: &Installation,
    configurations: [&Value; 2],
    now: Timestamp,
) -> Vec<Finding> {
    let mut findings = vec![Finding::fine(
        "engine",
        "the webhook injects pods, and checks them after other webhooks",
    )];
    let client = &configurations[0]["webhooks"][0]["clientConfig"];
    let service = client["service"]["name"].as_str().unwrap_or_default();
    let expected = webhooks::configurations(&installation.settings, service, "");
    for (expected, found) in expected.iter().zip(configurations) {
        let (expected, found) = (&expected["webhooks"][0], &found["webhooks"][0]);
        if found["failurePolicy"] != expected["failurePolicy"] {
            findings.push(Finding::failed(
                "webhook_open",
                format!(
                    "{} lets pods start without a relay when the controller is away",
                    expected["name"]
                ),
                format!("{UPGRADE}: failurePolicy must be Fail"),
            ));
        }
        let same = ["rules", "namespaceSelector"]
            .iter()
            .all(|key| within(&expected[*key], &found[*key]));
        if !same || !found["objectSelector"]["matchLabels"].is_null() {
            findings.push(Finding::failed(
                "webhook_changed",
                format!(
                    "{} is not called for the pods that this version injects",
                    expected["name"]
                ),
                UPGRADE,
            ));
        }
    }
    for configuration in configurations {
        let bundle = &configuration["webhooks"][0]["clientConfig"]["caBundle"];
        findings.push(ca(bundle, now));
    }
    // Both are written from one certificate.
    findings.dedup();
    findings.push(endpoints(api, installation, service).await);
    findings
}

fn ca(bundle: &Value, now: Timestamp) -> Finding {
    const CODE: &str = "webhook_ca";
    let pem = STANDARD.decode(bundle.as_str().unwrap_or_default());
    let Some(validity) = pem.ok().and_then(|pem| Validity::of_roots(&pem)) else {
        return Finding::failed(
            CODE,
            "the webhook's configuration has no CA, so API servers call it in vain and refuse every pod of opted-in namespaces",
            "see why the controller does not write it: kubectl logs -l app.kubernetes.io/component=controller -n NAMESPACE",
        );
    };
    let text = format!(
        "the CA of the webhook's certificate {}",
        validity.sentence(now)
    );
    let standing = validity.standing(now);
    if !standing.is_valid() {
        Finding::failed(
            CODE,
            format!("{text}, so API servers refuse every pod of opted-in namespaces"),
            "restart the controller, which makes a new one: kubectl rollout restart deployment",
        )
    } else if standing.as_str() == "ends_soon" {
        Finding::warning(
            CODE,
            text,
            "see in the controller's log why it is not renewed",
        )
    } else {
        Finding::fine(CODE, text)
    }
}

/// Whether somebody answers behind the webhook's Service.
async fn endpoints(api: &Api, installation: &Installation, service: &str) -> Finding {
    const CODE: &str = "webhook_endpoints";
    let namespace = &installation.namespace;
    match ready_endpoints(api, namespace, service).await {
        Ok(0) => Finding::failed(
            CODE,
            format!(
                "nothing is ready behind the webhook's Service {namespace}/{service}, so every pod of opted-in namespaces is refused"
            ),
            format!("kubectl get pods,endpointslices -n {namespace}"),
        ),
        Ok(count) => Finding::fine(
            CODE,
            format!("{count} ready behind the webhook's Service {namespace}/{service}"),
        ),
        Err(why) => Finding::unknown(CODE, "what is behind the webhook's Service", &why),
    }
}

/// How many addresses of a Service are ready.
pub(super) async fn ready_endpoints(
    api: &Api,
    namespace: &str,
    service: &str,
) -> Result<usize, Unread> {
    let label = format!("kubernetes.io/service-name={service}");
    let slices = api.list(SLICES, namespace, &label).await?;
    let mut ready: Vec<String> = slices
        .iter()
        .filter_map(|slice| slice["endpoints"].as_array())
        .flatten()
        .filter(|it| it["conditions"]["ready"] != false && it["conditions"]["terminating"] != true)
        // One pod may have an address of each family.
        .map(|it| match it["targetRef"]["uid"].as_str() {
            Some(uid) => uid.to_owned(),
            None => it["addresses"][0].to_string(),
        })
        .collect();
    ready.sort_unstable();
    ready.dedup();
    Ok(ready.len())
}
