//! What each request is answered with.

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{
    JWKS_PATH, KubernetesApi, OPENID_PATH,
    access::Attributes,
    failure::Failure,
    lock,
    request::{Query, Target},
    state::State,
    storage::{Form, shown},
    user::User,
    write::{Plan, Write, deleted},
};
use crate::fake::{Api, Body, Exchange, Received, body};

/// How often a write that names no version is tried again when the object changes meanwhile.
const ATTEMPTS: usize = 5;

impl Api for KubernetesApi {
    async fn answer(&self, exchange: Exchange) -> Response<Body> {
        let received = super::protobuf::as_json(exchange.read().await);
        let answered = self.respond(&received).await;
        answered.unwrap_or_else(|failure| failure.response())
    }
}

impl KubernetesApi {
    async fn respond(&self, received: &Received) -> Result<Response<Body>, Failure> {
        let user = self.user(received)?;
        let query = Query::of(received);
        let target = Target::parse(&received.path);
        let asked = Attributes::of(received, target.as_ref(), &query);
        let fault = *lock(&self.fault);
        if let Some(fault) = fault
            && let Some(answer) = fault.answer(&self.turns, &user, &asked).await
        {
            return Ok(answer);
        }
        if !self.state().allows(&user, &asked) {
            return Err(asked.forbidden(&user));
        }
        match target {
            None => self.without_resource(received),
            Some(target) => self.with_resource(target, received, query, user).await,
        }
    }

    fn user(&self, received: &Received) -> Result<User, Failure> {
        let authorization = received.header("authorization").unwrap_or_default();
        // Requests without a token are those of system:anonymous, whom no role grants anything.
        let Some(token) = authorization.strip_prefix("Bearer ") else {
            return Ok(User::anonymous());
        };
        let known = self.state().users.get(token).cloned();
        known
            .or_else(|| User::of_token(token, &self.keys, &self.clock))
            .ok_or_else(|| Failure::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized"))
    }

    fn without_resource(&self, received: &Received) -> Result<Response<Body>, Failure> {
        if received.method != Method::GET {
            return Err(Failure::method_not_allowed());
        }
        match received.path.as_str() {
            JWKS_PATH => Ok(body::json(StatusCode::OK, &self.keys.jwks())),
            OPENID_PATH => Ok(body::json(StatusCode::OK, &self.openid_configuration())),
            "/readyz" | "/livez" | "/healthz" => Ok(body::text(StatusCode::OK, "ok")),
            path => {
                let found = self.state().discover(path);
                let found = found.ok_or_else(Failure::no_such_path)?;
                Ok(body::json(StatusCode::OK, &found))
            }
        }
    }

    async fn with_resource(
        &self,
        target: Target,
        received: &Received,
        query: Query,
        user: User,
    ) -> Result<Response<Body>, Failure> {
        if let Some(made) = self.review(&target, received, &user) {
            return made.map(|made| body::json(StatusCode::CREATED, &made));
        }
        let kind = self
            .state()
            .kind(&target)
            .ok_or_else(Failure::no_such_path)?;
        let misplaced = !kind.namespaced && !target.namespace.is_empty();
        let unplaced = kind.namespaced && target.namespace.is_empty();
        let subresource = target.subresource.as_deref();
        if misplaced || subresource.is_some_and(|subresource| !kind.has(subresource)) {
            return Err(Failure::no_such_path());
        }
        match (&received.method, &target.name) {
            (&Method::GET, _) if query.is_true("watch") => {
                self.state().watch(&kind, &target, received, &query)
            }
            (&Method::GET, Some(name)) => self.state().read(&kind, &target, name, received),
            (&Method::GET, None) => self.state().list(&kind, &target, received, &query),
            _ if unplaced => Err(Failure::method_not_allowed()),
            _ => {
                let write = Write {
                    kind,
                    target,
                    received,
                    query,
                    user,
                    now: self.now(),
                };
                self.write(write).await
            }
        }
    }

    /// What is made and not kept.
    fn review(
        &self,
        target: &Target,
        received: &Received,
        user: &User,
    ) -> Option<Result<Value, Failure>> {
        let subresource = target.subresource.as_deref();
        if received.method != Method::POST {
            return None;
        }
        let access = |kind: &str| {
            let review = received.json().unwrap_or_default();
            self.state().review_access(user, kind, review)
        };
        match (target.group.as_str(), target.resource.as_str(), subresource) {
            ("", "serviceaccounts", Some("token")) => Some(self.make_token(target, received)),
            ("authentication.k8s.io", "tokenreviews", None) => Some(self.review_token(received)),
            ("authentication.k8s.io", "selfsubjectreviews", None) => {
                let review = received.json().unwrap_or_default();
                Some(State::review_self(user, review))
            }
            ("authorization.k8s.io", "selfsubjectaccessreviews", None) => {
                Some(access("SelfSubjectAccessReview"))
            }
            ("authorization.k8s.io", "subjectaccessreviews", None) => {
                Some(access("SubjectAccessReview"))
            }
            _ => None,
        }
    }

    fn openid_configuration(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{}{JWKS_PATH}", self.issuer),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })
    }

    async fn write(&self, write: Write<'_>) -> Result<Response<Body>, Failure> {
        match (&write.received.method, write.target.name.clone()) {
            (&Method::DELETE, Some(name)) => {
                let (plan, object) = self.delete(&write, &name).await?;
                // A pod is shown as it was; of most others a success is told.
                let whole =
                    plan.after.is_some() || ["Pod", "ServiceAccount"].contains(&&*plan.kind.kind);
                let said = if whole {
                    shown(&object, &plan.kind, Form::Full)
                } else {
                    deleted(&plan.target, &object)
                };
                Ok(body::json(StatusCode::OK, &said))
            }
            (&Method::DELETE, None) => {
                let selected = self.state().selected(&write)?;
                let mut items = Vec::new();
                for (_, name) in selected {
                    items.push(self.delete(&write, &name).await?.1);
                }
                let list = json!({
                    "kind": format!("{}List", write.kind.kind),
                    "apiVersion": write.kind.api_version(),
                    "metadata": {"resourceVersion": self.state().storage.version.to_string()},
                    "items": items,
                });
                Ok(body::json(StatusCode::OK, &list))
            }
            _ => {
                let (plan, object) = self.change(&write).await?;
                let form = super::read::form(write.received);
                Ok(body::json(plan.status, &shown(&object, &plan.kind, form)))
            }
        }
    }

    async fn change(&self, write: &Write<'_>) -> Result<(Plan, Value), Failure> {
        for _ in 0..ATTEMPTS {
            let mut plan = self.state().plan(write)?;
            self.admit(write, &mut plan).await?;
            if let Some(object) = self.state().carry_out(&plan) {
                return Ok((plan, object));
            }
        }
        let name = write.target.name.as_deref().unwrap_or_default();
        Err(Failure::modified(&write.target, name))
    }

    async fn delete(&self, write: &Write<'_>, name: &str) -> Result<(Plan, Value), Failure> {
        for _ in 0..ATTEMPTS {
            let mut plan = self.state().plan_deletion(write, name)?;
            self.admit(write, &mut plan).await?;
            if let Some(object) = self.state().carry_out(&plan) {
                return Ok((plan, object));
            }
        }
        Err(Failure::modified(&write.target, name))
    }

    /// RFC 3339, in whole seconds.
    pub(super) fn now(&self) -> String {
        let seconds = self.clock.now().as_second();
        let now = jiff::Timestamp::from_second(seconds).unwrap_or_default();
        now.to_string()
    }
}
