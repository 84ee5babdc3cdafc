//! The latest lines of the decision log, and whom what is not for everybody is shown to.

use std::net::IpAddr;

use axum::{
    body::Body,
    extract::{Query, Request, State},
    http::{HeaderName, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use uuid::Uuid;

use super::{AdminState, lines::Lines};
use crate::observe::DecisionLog;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client(pub(super) IpAddr);

/// What everybody else is told.
const NOT_HERE: &str = "records and revisions are shown to this machine alone; from elsewhere: kubectl port-forward POD 9901, and then http://127.0.0.1:9901\n";

/// Refuses every client that is not on this machine.
pub(super) async fn local_only(request: Request, next: Next) -> Response {
    let client = request.extensions().get::<Client>();
    if !client.is_some_and(|Client(client)| client.to_canonical().is_loopback()) {
        return (StatusCode::FORBIDDEN, NOT_HERE).into_response();
    }
    next.run(request).await
}

/// What is asked of `/records`.
#[derive(Debug, Deserialize)]
pub(super) struct RecordsQuery {
    /// One record.
    id: Option<String>,
    /// Only what came after an earlier answer: the number in its `countersign-next`.
    after: Option<u64>,
}

/// The latest lines of the decision log, as they were written.
pub(super) async fn records(
    State(state): State<AdminState>,
    Query(query): Query<RecordsQuery>,
) -> Response {
    const LINES: &str = "application/x-ndjson";
    let Some(recent) = state.0.log.get().map(DecisionLog::recent) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Some(id) = query.id else {
        let (lines, next) = recent.after(query.after.unwrap_or_default());
        let headers = [
            (header::CONTENT_TYPE, LINES.to_owned()),
            (
                HeaderName::from_static("countersign-next"),
                next.to_string(),
            ),
        ];
        return (headers, Body::new(Lines(lines))).into_response();
    };
    let Ok(id) = Uuid::parse_str(&id) else {
        let sentence = "an id is the UUID of a refusal, as in its Proxy-Status\n";
        return (StatusCode::BAD_REQUEST, sentence).into_response();
    };
    if let Some(line) = recent.find(&id.hyphenated().to_string()) {
        return ([(header::CONTENT_TYPE, LINES)], line).into_response();
    }
    let sentence = "not among this gateway's latest records; look in the decision log\n";
    (StatusCode::NOT_FOUND, sentence).into_response()
}
