//! The errors of the API server, in Kubernetes' own shape.

use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::request::Target;
use crate::fake::{Body, body};

/// Why it does not do something.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) code: StatusCode,
    pub(super) reason: String,
    pub(super) message: String,
    details: Box<Value>,
}

/// What is wrong with a field.
pub(super) struct Cause {
    pub(super) reason: &'static str,
    pub(super) field: String,
    pub(super) message: String,
}

impl Cause {
    pub(super) fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self {
            reason: "FieldValueInvalid",
            field: field.to_owned(),
            message: message.into(),
        }
    }
}

impl Failure {
    pub(super) fn new(code: StatusCode, reason: &str, message: &str) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            message: message.to_owned(),
            details: Box::default(),
        }
    }

    pub(super) fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(super) fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    pub(super) fn not_found(target: &Target, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", target.qualified());
        Self::new(StatusCode::NOT_FOUND, "NotFound", &message).about(target, name)
    }

    pub(super) fn already_exists(target: &Target, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", target.qualified());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", &message).about(target, name)
    }

    pub(super) fn conflict(target: &Target, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            target.qualified()
        );
        Self::new(StatusCode::CONFLICT, "Conflict", &message).about(target, name)
    }

    pub(super) fn modified(target: &Target, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Self::conflict(target, name, why)
    }

    /// Fields of an object that are wrong; `kind` is `Secret` or `Workload.countersign.dev`.
    pub(super) fn invalid(kind: &str, name: &str, causes: &[Cause]) -> Self {
        let said: Vec<String> = causes
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        let said = match said.as_slice() {
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        };
        let message = format!("{kind} \"{name}\" is invalid: {said}");
        let mut failure = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", &message);
        let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
        *failure.details = json!({
            "name": name,
            "kind": kind,
            "group": group,
            "causes": causes.iter().map(|cause| json!({
                "reason": cause.reason, "message": cause.message, "field": cause.field,
            })).collect::<Vec<_>>(),
        });
        failure
    }

    pub(super) fn gone(message: &str) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    pub(super) fn with_details(mut self, details: Value) -> Self {
        self.details = Box::new(details);
        self
    }

    pub(super) fn about(self, target: &Target, name: &str) -> Self {
        let mut details = json!({"kind": target.resource});
        if !name.is_empty() {
            details["name"] = name.into();
        }
        if !target.group.is_empty() {
            details["group"] = target.group.clone().into();
        }
        self.with_details(details)
    }

    /// Kubernetes' own error shape.
    pub(super) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        if !self.details.is_null() {
            status["details"] = Value::clone(&self.details);
        }
        status
    }

    pub(super) fn response(&self) -> Response<Body> {
        let mut response = body::json(self.code, &self.status());
        if self.code == StatusCode::TOO_MANY_REQUESTS {
            let headers = response.headers_mut();
            headers.insert("retry-after", HeaderValue::from_static("1"));
        }
        response
    }
}
