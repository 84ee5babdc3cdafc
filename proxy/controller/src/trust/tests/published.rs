//! When something that was published is written again.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Client,
    client::Body,
    core::PartialObjectMeta,
    runtime::{
        reflector::{self, store::Writer},
        watcher::Event,
    },
};
use serde_json::json;

use super::{Bundle, authorities, now, settings};
use crate::trust::publish::Publisher;

type Metadata = PartialObjectMeta<ConfigMap>;

/// An API server without `ClusterTrustBundles`, and the paths that were written.
fn api_server() -> (Client, Arc<Mutex<Vec<String>>>) {
    let written: Arc<Mutex<Vec<String>>> = Arc::default();
    let paths = Arc::clone(&written);
    let answer = move |request: Request<Body>| {
        let path = request.uri().path();
        let (status, body) = if request.method() == Method::PATCH {
            paths.lock().unwrap().push(path.to_owned());
            let metadata = json!({"name": "any", "resourceVersion": "7"});
            (StatusCode::OK, json!({"metadata": metadata}))
        } else {
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "code": 404});
            (StatusCode::NOT_FOUND, status)
        };
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = status;
        async { Ok::<_, Infallible>(response) }
    };
    (
        Client::new(tower::service_fn(answer), "countersign"),
        written,
    )
}

fn list(writer: &mut Writer<Metadata>, name: &str, namespaces: &[&str]) {
    writer.apply_watcher_event(&Event::Init);
    for namespace in namespaces {
        let metadata = json!({"name": name, "namespace": namespace, "resourceVersion": "7"});
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        let object = serde_json::from_value(object).unwrap();
        writer.apply_watcher_event(&Event::InitApply(object));
    }
    writer.apply_watcher_event(&Event::InitDone);
}

/// Nobody tells of what is deleted between the write and the first list.
#[tokio::test]
async fn what_the_first_list_does_not_have_is_written_again() {
    let (client, written) = api_server();
    let settings = Arc::new(settings());
    let [(apps, mut of_apps), (gateways, mut of_gateways)] =
        [(); 2].map(|()| reflector::store::<Metadata>());
    let mut publisher = Publisher::new(client, Arc::clone(&settings), [apps, gateways]);
    let bundle = Arc::new(Bundle::new(&authorities(), &[], None));
    let namespaces = BTreeSet::from(["qa".to_owned()]);
    let mut paths = async || {
        let problems = publisher.publish(&bundle, &namespaces, now()).await;
        assert_eq!(problems, [""; 0]);
        std::mem::take(&mut *written.lock().unwrap())
    };
    assert_eq!(paths().await.len(), 4, "two in qa, two beside the gateway");
    assert_eq!(paths().await, [""; 0], "nothing has changed");
    let both = ["qa", settings.namespace.as_str()];
    list(&mut of_apps, &settings.trust_config_map, &both[1..]);
    list(&mut of_gateways, &settings.gateway_ca_config_map, &both);
    publisher.forget_unlisted();
    let problems = publisher.publish(&bundle, &namespaces, now()).await;
    assert_eq!(problems, [""; 0]);
    let name = &settings.trust_config_map;
    let expected = [format!("/api/v1/namespaces/qa/configmaps/{name}")];
    assert_eq!(*written.lock().unwrap(), expected);
}
