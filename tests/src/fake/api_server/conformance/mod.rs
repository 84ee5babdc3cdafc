//! What Countersign relies on in an API server, as one table of promises. It runs against the stand-in
//! always, and against a real `kube-apiserver` with etcd where `KUBEBUILDER_ASSETS` names them, so that
//! the stand-in stays honest.

mod apply;
mod kinds;
mod objects;
mod rights;
mod watches;

use std::{panic::AssertUnwindSafe, pin::Pin};

use futures_util::{AsyncBufReadExt as _, FutureExt as _, StreamExt as _, stream::BoxStream};
use http::{Method, Request, StatusCode};
use kube::{Client, Config, client::Body};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::ApiServer;
use crate::{
    fake::{Authority, Issuer},
    kube_apiserver::KubeApiServer,
    random,
};
use countersign_core::clock::Clock;

/// A server under test, with a namespace of the case's own.
struct Subject {
    admin: Client,
    /// Somebody to whom nothing is granted yet.
    nobody: Client,
    namespace: String,
}

/// An answer: its status and its body.
struct Answer {
    status: StatusCode,
    body: Value,
}

impl Answer {
    #[track_caller]
    fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }

    /// That it is refused with this reason, and a message that holds this text.
    #[track_caller]
    fn refused(self, status: u16, reason: &str, message: &str) {
        let body = self.expect(status);
        assert_eq!(body["kind"], "Status", "{body}");
        assert_eq!(body["reason"], reason, "{body}");
        let said = body["message"].as_str().unwrap_or_default();
        assert!(said.contains(message), "{said:?} lacks {message:?}");
    }
}

fn client(url: &str, ca_pem: &str, token: &str) -> Client {
    let mut config = Config::new(url.parse().unwrap());
    let root = CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap();
    config.root_cert = Some(vec![root.to_vec()]);
    config.auth_info.token = Some(token.to_owned().into());
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

impl Subject {
    async fn in_new_namespace(&self) -> Self {
        let namespace = format!("conform-{}", random::hex::<4>());
        let subject = Self {
            admin: self.admin.clone(),
            nobody: self.nobody.clone(),
            namespace: namespace.clone(),
        };
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        subject
            .post("/api/v1/namespaces", &object)
            .await
            .expect(201);
        subject
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: &Value) -> Answer {
        send(&self.admin, method, path, kind, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "application/json", &Value::Null)
            .await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, "application/json", body)
            .await
    }

    async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, "application/json", body).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, "application/json", &Value::Null)
            .await
    }

    async fn merge(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, "application/merge-patch+json", body)
            .await
    }

    async fn apply(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, "application/apply-patch+yaml", body)
            .await
    }

    /// The events of a watch, as they come.
    async fn watch(&self, path: &str, accept: &str) -> BoxStream<'static, Value> {
        let request = Request::get(path)
            .header("accept", accept)
            .body(Vec::new())
            .unwrap();
        let lines = self.admin.request_stream(request).await.unwrap().lines();
        let events = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        events.boxed()
    }

    fn config_map(&self, name: &str, data: &Value) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.namespace},
            "data": data,
        })
    }

    fn pod(&self, name: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "labels": {"app": name}},
            "spec": {"containers": [{"name": "app", "image": "example.com/app:1"}]},
        })
    }
}

async fn send(client: &Client, method: Method, path: &str, kind: &str, body: &Value) -> Answer {
    let sent = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    send_bytes(client, method, path, kind, sent).await
}

async fn send_bytes(
    client: &Client,
    method: Method,
    path: &str,
    kind: &str,
    sent: Vec<u8>,
) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .header("accept", "application/json")
        .body(Body::from(sent))
        .unwrap();
    let response = client.send(request).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = body.collect_bytes().await.unwrap();
    Answer {
        status: head.status,
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    }
}

type Case = for<'a> fn(&'a Subject) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

macro_rules! cases {
    ($($module:ident::$name:ident),* $(,)?) => {
        &[$((stringify!($name), |subject| Box::pin($module::$name(subject)))),*]
    };
}

/// Every promise.
const CASES: &[(&str, Case)] = cases![
    objects::names_are_checked,
    objects::what_is_there_cannot_be_made_again,
    objects::a_stale_version_is_a_conflict,
    objects::what_changes_nothing_makes_no_version,
    objects::unknown_fields_are_dropped_or_refused,
    objects::a_finalizer_holds_a_deletion,
    objects::a_pod_on_a_node_ends_with_grace,
    objects::preconditions_hold,
    objects::a_pod_has_a_status_of_its_own,
    objects::a_dying_namespace_takes_nothing,
    kinds::a_custom_resource_is_served_and_checked,
    kinds::a_lease_needs_its_version,
    kinds::certificates_are_requested_approved_and_signed,
    kinds::kubectl_sends_objects_in_binary_form,
    kinds::what_is_not_in_binary_form_is_refused,
    kinds::the_server_says_that_it_checks_fields,
    objects::json_patches_are_applied_or_refused,
    watches::lists_come_in_pages,
    watches::a_watch_tells_each_change,
    watches::a_watch_by_labels_adds_and_deletes,
    watches::initial_events_end_with_a_bookmark,
    watches::metadata_alone_can_be_watched,
    watches::options_that_do_not_go_together_are_refused,
    watches::fields_that_cannot_be_selected_are_refused,
    apply::an_apply_makes_and_changes,
    apply::a_field_has_one_manager,
    apply::what_is_no_longer_applied_goes,
    apply::a_status_is_applied_apart,
    apply::an_apply_says_who,
    rights::what_no_role_grants_is_forbidden,
    rights::a_role_grants_in_its_namespace_and_by_name,
    rights::everybody_may_ask_about_themselves,
    rights::everybody_may_ask_who_they_are,
    rights::the_issuer_says_who_it_is,
    rights::a_bad_token_is_unauthorized,
    rights::approving_needs_a_right_on_the_signer,
];

async fn keeps_every_promise(subject: &Subject) {
    let mut broken = Vec::new();
    for (name, case) in CASES {
        let subject = subject.in_new_namespace().await;
        // All that is broken is told, not the first alone.
        if AssertUnwindSafe(case(&subject))
            .catch_unwind()
            .await
            .is_err()
        {
            broken.push(*name);
        }
    }
    assert!(broken.is_empty(), "not kept: {broken:?}");
}

#[tokio::test]
async fn the_stand_in_keeps_every_promise() {
    let authority = Authority::default();
    let issuer = Issuer::start(&authority, Clock::system()).await.unwrap();
    let server = ApiServer::start(&authority, &issuer, Clock::system())
        .await
        .unwrap();
    let nobody = server.add_user("nobody", &[]);
    let (url, ca_pem) = (server.url(), server.ca_pem());
    let subject = Subject {
        admin: client(&url, ca_pem, server.admin()),
        nobody: client(&url, ca_pem, &nobody),
        namespace: String::new(),
    };
    keeps_every_promise(&subject).await;
}

#[tokio::test]
async fn a_real_server_keeps_every_promise() {
    let authority = Authority::default();
    let Some(server) = KubeApiServer::start(&authority).await.unwrap() else {
        return;
    };
    let (url, ca_pem) = (server.url(), server.ca_pem());
    let subject = Subject {
        admin: client(&url, ca_pem, server.token()),
        nobody: client(&url, ca_pem, server.nobody()),
        namespace: String::new(),
    };
    keeps_every_promise(&subject).await;
}
