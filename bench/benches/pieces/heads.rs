//! Making a request's head ours.

use std::hint::black_box;

use countersign_config::{model::Route, path::CanonicalPath, policy::Decision};
use countersign_core::{destination::Authority, secret::Secret};
use countersign_upstream::inject;
use http::{Method, Request, request::Parts};

use super::Asked;

/// What Slack's SDK for Python sends, and what is put on it.
pub(crate) struct Heads {
    route: Route,
    authority: Authority,
    path: CanonicalPath,
    secret: Secret,
    parts: Parts,
}

impl Heads {
    pub(crate) fn new() -> Self {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/api/chat.postMessage")
            .header("host", "slack.com")
            .header("accept-encoding", "identity")
            .header("user-agent", "python/3.11.2 slackclient/3.44.0 Linux/6.1.0")
            .header("content-type", "application/json;charset=utf-8")
            .header("content-length", "187")
            .header("authorization", "Bearer dummy")
            .header("connection", "keep-alive")
            .body(())
            .expect("a request");
        let (parts, ()) = request.into_parts();
        let asked = Asked::permitted(0);
        let Decision::Permit(grant) = asked.decide() else {
            panic!("it is permitted");
        };
        let path = parts.uri.path_and_query().expect("it has a path");
        Self {
            path: CanonicalPath::check(path).expect("it is canonical"),
            authority: Authority::with_port("slack.com:443").expect("it is canonical"),
            secret: Secret::new("xoxb-123456789012-1234567890123-abcdefghijklmnopqrst".to_owned()),
            route: grant.route().clone(),
            parts,
        }
    }

    /// A request that nothing was done to yet.
    pub(crate) fn fresh(&self) -> Parts {
        self.parts.clone()
    }

    /// Strips it and puts the credential on.
    pub(crate) fn inject(&self, parts: &mut Parts) {
        let attach = self.route.attach.as_ref();
        let attach = attach.map(|attach| (attach, &self.secret));
        let (parts, route) = (black_box(parts), black_box(&self.route));
        let done = inject::head(parts, &self.authority, &self.path, route, attach);
        black_box(done.expect("nothing imitates ours"));
    }
}
