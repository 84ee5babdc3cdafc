//! The console: pages at a gateway's admin endpoint that answer, for people, what `countersign-insight` knows: what
//! failed, whose fault it is, and what to do.
//!
//! Read-only, complete without JavaScript, and without anything from elsewhere. It answers nothing by itself, and sees
//! of the gateway what a [`Source`] shows. Records are read on threads that may wait, one reading at a time, of a
//! bounded number of bytes in a bounded time: `desk.rs` has the bounds.

mod desk;
mod gate;
mod page;
mod pages;
mod reading;
mod session;
mod source;
mod view;

use std::sync::Arc;

use axum::{
    Router,
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{any, get},
};
use countersign_config::model;
use countersign_core::clock::Clock;

pub use source::Source;

use crate::{desk::Desk, gate::Gate};

/// What all pages need. Cheap to clone; clones share.
#[derive(Clone)]
pub(crate) struct Console {
    desk: Desk,
    gate: Gate,
}

/// The pages, all of them under `/console`. Each request must have the client's address as
/// `ConnectInfo<SocketAddr>`; without it, it is refused.
pub fn router(source: Arc<dyn Source>, settings: model::Console, clock: Clock) -> Router<()> {
    let console = Console {
        gate: Gate::new(settings, clock.clone()),
        desk: Desk::new(source, clock),
    };
    Router::new()
        .route("/console", get(pages::overview::show))
        .route("/console/", get(pages::overview::show))
        .route("/console/failures", get(pages::failures::show))
        .route("/console/requests", get(pages::requests::list))
        .route("/console/request", get(pages::requests::story))
        .route("/console/workloads", get(pages::workloads::list))
        .route("/console/workload", get(pages::workloads::one))
        .route("/console/who-can", get(pages::workloads::ask))
        .route("/console/credentials", get(pages::credentials::list))
        .route("/console/credential", get(pages::credentials::one))
        .route("/console/revisions", get(pages::revisions::list))
        .route("/console/diff", get(pages::revisions::diff))
        .route("/console/review", get(pages::review::show))
        .route("/console/login", get(gate::login_form).post(gate::login))
        .route("/console/console.css", get(style))
        .route("/console/console.js", get(script))
        .route("/console/{*rest}", any(gate::not_found))
        .layer(middleware::from_fn_with_state(console.clone(), gate::admit))
        .with_state(console)
}

async fn style() -> Response {
    asset(
        "text/css; charset=utf-8",
        include_str!("../assets/console.css"),
    )
}

async fn script() -> Response {
    asset(
        "text/javascript; charset=utf-8",
        include_str!("../assets/console.js"),
    )
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests;
