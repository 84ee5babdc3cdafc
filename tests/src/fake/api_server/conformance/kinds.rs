//! Kinds with rules of their own: custom resources, leases, requests for certificates.

use super::{Authority, Method, StatusCode, Subject, Value, json, send_bytes};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn definition(group: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": {
                            "type": "object",
                            "required": ["size"],
                            "properties": {
                                "size": {"type": "integer", "minimum": 1},
                                "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                            },
                        },
                        "status": {
                            "type": "object",
                            "properties": {"ready": {"type": "boolean"}},
                        },
                    },
                }},
            }],
        },
    })
}

pub(super) async fn a_custom_resource_is_served_and_checked(subject: &Subject) {
    let group = format!("{}.example.com", subject.namespace);
    let mut wrong = definition(&group);
    wrong["metadata"]["name"] = "other.example.com".into();
    subject
        .post(DEFINITIONS, &wrong)
        .await
        .refused(422, "Invalid", "must be spec.names.plural");
    subject
        .post(DEFINITIONS, &definition(&group))
        .await
        .expect(201);
    let path = format!("/apis/{group}/v1/namespaces/{}/widgets", subject.namespace);
    let widget = |spec: Value| json!({"apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": {"name": "a"}, "spec": spec});
    // A real server takes a moment to serve what was just defined.
    let made = loop {
        let answer = subject
            .post(&path, &widget(json!({"size": 1, "shape": "round"})))
            .await;
        if answer.status != StatusCode::NOT_FOUND {
            break answer.expect(201);
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(made["spec"], json!({"size": 1, "colour": "red"}));
    assert_eq!(made["metadata"]["generation"], 1);
    let path = format!("{path}/a");
    subject
        .merge(&path, &json!({"spec": {"size": 0}}))
        .await
        .refused(422, "Invalid", "spec.size");
    subject
        .merge(&path, &json!({"spec": {"size": "1"}}))
        .await
        .refused(422, "Invalid", "must be of type integer");
    subject
        .merge(&path, &json!({"spec": {"colour": "green"}}))
        .await
        .refused(422, "Invalid", "Unsupported value");
    subject
        .merge(&path, &json!({"spec": {"size": null}}))
        .await
        .refused(422, "Invalid", "spec.size: Required value");
    let changed = subject
        .merge(&path, &json!({"spec": {"size": 2}}))
        .await
        .expect(200);
    assert_eq!(changed["metadata"]["generation"], 2);
    let both = json!({"status": {"ready": true}, "spec": {"size": 9}});
    let status = subject.merge(&format!("{path}/status"), &both).await;
    let status = status.expect(200);
    assert_eq!(
        (&status["spec"]["size"], &status["metadata"]["generation"]),
        (&json!(2), &json!(2))
    );
    let mut unversioned = widget(json!({"size": 3}));
    unversioned["metadata"]["name"] = "a".into();
    let refused = subject.put(&path, &unversioned).await;
    refused.refused(422, "Invalid", "metadata.resourceVersion: Invalid value");
}

pub(super) async fn a_lease_needs_its_version(subject: &Subject) {
    let path = format!(
        "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
        subject.namespace
    );
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "leader"},
        "spec": {"holderIdentity": "one", "leaseDurationSeconds": 15, "renewTime": "2026-11-23T05:10:00.000000Z"},
    });
    let made = subject.post(&path, &lease).await.expect(201);
    assert!(made["metadata"]["generation"].is_null());
    let path = format!("{path}/leader");
    subject
        .put(&path, &lease)
        .await
        .refused(422, "Invalid", "must be specified for an update");
    let mut taken = made.clone();
    taken["spec"]["holderIdentity"] = "two".into();
    subject.put(&path, &taken).await.expect(200);
    let late = subject.put(&path, &made).await;
    late.refused(409, "Conflict", "leases.coordination.k8s.io \"leader\"");
}

/// A certificate request in PEM, and one that a server takes.
pub(super) fn signing_request(name: &str) -> Value {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": BASE64_STANDARD.encode(request.pem().unwrap()),
            "signerName": "countersign.dev/gateway",
            "usages": ["digital signature", "server auth"],
            "expirationSeconds": 3600,
        },
    })
}

pub(super) async fn certificates_are_requested_approved_and_signed(subject: &Subject) {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let request = signing_request(&subject.namespace);
    for (field, value, said) in [
        (
            "signerName",
            json!("gateway"),
            "fully qualified domain and path",
        ),
        (
            "expirationSeconds",
            json!(60),
            "may not specify a duration less than 600 seconds",
        ),
        ("request", json!("bm9uZQ=="), "CERTIFICATE REQUEST"),
    ] {
        let mut bad = request.clone();
        bad["spec"][field] = value;
        subject.post(path, &bad).await.refused(422, "Invalid", said);
    }
    let made = subject.post(path, &request).await.expect(201);
    assert_eq!(made["spec"]["username"], "tester");
    let path = format!("{path}/{}", subject.namespace);
    let mut approved = made.clone();
    approved["status"] = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "Test", "message": "yes"}]});
    // The object itself takes no conditions; its approval does.
    let plain = subject.put(&path, &approved).await.expect(200);
    assert!(plain["status"]["conditions"].is_null());
    approved["metadata"] = plain["metadata"].clone();
    let approved = subject
        .put(&format!("{path}/approval"), &approved)
        .await
        .expect(200);
    assert_eq!(approved["status"]["conditions"][0]["type"], "Approved");
    let pem = Authority::default().pem();
    let mut signed = approved.clone();
    signed["status"]["certificate"] = "bm9uZQ==".into();
    subject
        .put(&format!("{path}/status"), &signed)
        .await
        .expect(422);
    signed["status"]["certificate"] = BASE64_STANDARD.encode(&pem).into();
    let signed = subject
        .put(&format!("{path}/status"), &signed)
        .await
        .expect(200);
    assert!(signed["status"]["certificate"].is_string());
    assert_eq!(signed["status"]["conditions"][0]["type"], "Approved");
}

const BINARY: &str = "application/vnd.kubernetes.protobuf";

/// A field of a message, of text or a message itself.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("it is short");
    [&[(number << 3) | 2, length], bytes].concat()
}

/// An object as `kubectl create` sends it: metadata with this name, and more fields.
fn binary(version: &str, kind: &str, name: &str, more: &[u8]) -> Vec<u8> {
    let kind = [field(1, version.as_bytes()), field(2, kind.as_bytes())].concat();
    // Texts that are not set are written, too.
    let metadata = [field(1, name.as_bytes()), field(2, b""), field(3, b"")].concat();
    let object = [&field(1, &metadata), more].concat();
    let rest = [field(3, b""), field(4, b"")].concat();
    [b"k8s\0".to_vec(), field(1, &kind), field(2, &object), rest].concat()
}

pub(super) async fn kubectl_sends_objects_in_binary_form(subject: &Subject) {
    let post = async |path: &str, body: Vec<u8>| {
        send_bytes(&subject.admin, Method::POST, path, BINARY, body).await
    };
    let entry = [field(1, b"token"), field(2, b"\xff\x00")].concat();
    let secret = [field(2, &entry), field(3, b"Opaque")].concat();
    let secrets = subject.path("secrets");
    let answer = post(&secrets, binary("v1", "Secret", "binary", &secret)).await;
    let answer = answer.expect(201);
    assert_eq!(answer["metadata"]["name"], "binary");
    assert_eq!(answer["data"]["token"], "/wA=");

    let name = format!("{}-binary", subject.namespace);
    let status = field(3, &field(1, b""));
    let body = binary("v1", "Namespace", &name, &[field(2, b""), status].concat());
    let answer = post("/api/v1/namespaces", body).await.expect(201);
    assert_eq!(answer["metadata"]["name"], *name);

    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}});
    let accounts = subject.path("serviceaccounts");
    subject.post(&accounts, &account).await.expect(201);
    let spec = field(
        2,
        &[field(1, b"countersign"), vec![4 << 3, 0xd8, 0x04]].concat(),
    );
    let status = field(3, &[field(1, b""), field(2, b"")].concat());
    let version = "authentication.k8s.io/v1";
    let body = binary(version, "TokenRequest", "", &[spec, status].concat());
    let answer = post(&format!("{accounts}/robot/token"), body).await;
    let answer = answer.expect(201);
    assert_eq!(answer["spec"]["audiences"], json!(["countersign"]));
    assert_eq!(answer["spec"]["expirationSeconds"], 600);
    assert!(answer["status"]["token"].is_string());
}

pub(super) async fn what_is_not_in_binary_form_is_refused(subject: &Subject) {
    let path = subject.path("secrets");
    let damaged = b"k8s/no message".to_vec();
    let answer = send_bytes(&subject.admin, Method::POST, &path, BINARY, damaged).await;
    answer.refused(400, "BadRequest", "the object provided is unrecognized");
}

pub(super) async fn the_server_says_that_it_checks_fields(subject: &Subject) {
    let documents = subject.get("/openapi/v3").await.expect(200);
    let url = documents["paths"]["api/v1"]["serverRelativeURL"].as_str();
    let document = subject.get(url.expect("there is a URL")).await.expect(200);
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/configmaps/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"]["kind"],
        "ConfigMap"
    );
    let parameters = patch["parameters"].as_array().expect("parameters");
    assert!(parameters.iter().any(|it| it["name"] == "fieldValidation"));
}
