//! The API server of a test: the stand-in always, and a real one where the machine has it.

use std::fs;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use countersign_config::model;
use countersign_controller::crd;
use countersign_tests::{environment::Environment, kube_apiserver::KubeApiServer};
use http::{Method, Request};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};
use serde_json::{Value, json};

/// An API server that has the definitions of the four kinds.
pub(super) struct Cluster {
    admin: Client,
    admin_token: String,
    model: model::Cluster,
    /// Who the gateway is to it.
    gateway: Value,
    _real: Option<KubeApiServer>,
}

/// Runs a test with the stand-in, and with a real API server where there is one.
pub(super) async fn everywhere(
    test: impl AsyncFn(Environment, &Cluster) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let cluster = Cluster::stand_in(&env).await?;
    Box::pin(test(env, &cluster)).await?;
    let env = Environment::start().await?;
    if let Some(cluster) = Cluster::real(&env).await? {
        Box::pin(test(env, &cluster)).await?;
    }
    Ok(())
}

impl Cluster {
    /// The environment's stand-in.
    pub(super) async fn stand_in(env: &Environment) -> anyhow::Result<Self> {
        let server = &env.api_server;
        let gateway =
            json!({"kind": "ServiceAccount", "name": "countersign", "namespace": "countersign"});
        let (url, admin) = (server.url(), server.admin().to_owned());
        Self::with(env, &url, &admin, server.bearer(), gateway, None).await
    }

    async fn real(env: &Environment) -> anyhow::Result<Option<Self>> {
        let Some(server) = KubeApiServer::start(&env.authority).await? else {
            return Ok(None);
        };
        let gateway =
            json!({"kind": "User", "name": "nobody", "apiGroup": "rbac.authorization.k8s.io"});
        let (url, admin, own) = (
            server.url(),
            server.token().to_owned(),
            server.nobody().to_owned(),
        );
        let cluster = Self::with(env, &url, &admin, &own, gateway, Some(server)).await?;
        Ok(Some(cluster))
    }

    async fn with(
        env: &Environment,
        url: &str,
        admin: &str,
        own: &str,
        gateway: Value,
        real: Option<KubeApiServer>,
    ) -> anyhow::Result<Self> {
        let roots = env.directory().join("upstream-roots.pem");
        let token_file = env.secret_directory().join("gateway-token");
        fs::write(&token_file, own)?;
        let mut config = Config::new(url.parse()?);
        config.root_cert_file = Some(roots.clone());
        config.auth_info.token = Some(admin.to_owned().into());
        let cluster = Self {
            admin: countersign_controller::connect(config)?,
            model: model::Cluster {
                url: url.to_owned(),
                ca_file: Some(roots),
                token_file,
            },
            admin_token: admin.to_owned(),
            gateway,
            _real: real,
        };
        for definition in crd::all() {
            cluster
                .put(
                    "apiextensions.k8s.io/v1",
                    "CustomResourceDefinition",
                    "",
                    &definition,
                )
                .await?;
        }
        cluster.until_served().await?;
        Ok(cluster)
    }

    /// A real server serves a kind a moment after its definition was made.
    async fn until_served(&self) -> anyhow::Result<()> {
        for kind in crd::KINDS {
            let api = self.api(kind.name(), "default");
            crate::harness::until("the kinds", async || {
                api.list(&kube::api::ListParams::default()).await.is_ok()
            })
            .await?;
        }
        Ok(())
    }

    /// As the gateway's configuration names it.
    pub(super) fn model(&self) -> model::Cluster {
        self.model.clone()
    }

    pub(super) fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// Objects of one of our kinds.
    pub(super) fn api(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.admin.clone(), namespace, &ours(kind))
    }

    /// As `kubectl apply --server-side`.
    pub(super) async fn apply(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        spec: Value,
    ) -> anyhow::Result<()> {
        let object = json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        });
        let how = PatchParams::apply("kubectl").force();
        let api = self.api(kind, namespace);
        api.patch(name, &how, &Patch::Apply(&object)).await?;
        Ok(())
    }

    pub(super) async fn delete(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> anyhow::Result<()> {
        let api = self.api(kind, namespace);
        api.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// The status of an object; null before there is one.
    pub(super) async fn status(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> anyhow::Result<Value> {
        let object = self.api(kind, namespace).get(name).await?;
        Ok(object.data["status"].clone())
    }

    pub(super) async fn namespace(&self, name: &str) -> anyhow::Result<()> {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.put("v1", "Namespace", "", &object).await
    }

    pub(super) async fn secret(
        &self,
        namespace: &str,
        name: &str,
        value: &str,
    ) -> anyhow::Result<()> {
        let object = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace}, "data": {"token": BASE64_STANDARD.encode(value)},
        });
        self.put("v1", "Secret", namespace, &object).await
    }

    /// Lets the gateway do this in all namespaces: group, resource, verbs.
    pub(super) async fn grant(&self, rules: &[(&str, &str, &[&str])]) -> anyhow::Result<()> {
        let rules: Vec<_> = rules
            .iter()
            .map(|(group, resource, verbs)| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs}))
            .collect();
        let version = "rbac.authorization.k8s.io/v1";
        let role = json!({
            "apiVersion": version, "kind": "ClusterRole",
            "metadata": {"name": "gateway"}, "rules": rules,
        });
        self.put(version, "ClusterRole", "", &role).await?;
        let binding = json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": "gateway"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "gateway"},
            "subjects": [self.gateway],
        });
        self.put(version, "ClusterRoleBinding", "", &binding).await
    }

    /// Makes an object, or makes it this one.
    pub(super) async fn put(
        &self,
        version: &str,
        kind: &str,
        namespace: &str,
        object: &Value,
    ) -> anyhow::Result<()> {
        let plural = match kind {
            "CustomResourceDefinition" => "customresourcedefinitions".to_owned(),
            _ => format!("{}s", kind.to_lowercase()),
        };
        let root = if version == "v1" { "api" } else { "apis" };
        let place = match namespace {
            "" => String::new(),
            namespace => format!("namespaces/{namespace}/"),
        };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let path =
            format!("/{root}/{version}/{place}{plural}/{name}?fieldManager=tests&force=true");
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(path)
            .header("content-type", "application/apply-patch+yaml")
            .header("accept", "application/json")
            .body(object.to_string().into_bytes())?;
        let _: Value = self.admin.request(request).await?;
        Ok(())
    }
}

fn ours(kind: &str) -> ApiResource {
    ApiResource {
        group: crd::GROUP.to_owned(),
        version: crd::version().to_owned(),
        api_version: format!("{}/{}", crd::GROUP, crd::version()),
        kind: kind.to_owned(),
        plural: match kind {
            "AccessPolicy" => "accesspolicies".to_owned(),
            kind => format!("{}s", kind.to_lowercase()),
        },
    }
}
