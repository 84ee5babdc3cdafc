//! Pages as responses: the frame around them, the headers that keep them to themselves, and the pages that refuse.

use askama::Template;
use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use countersign_types::shown::escaped;

use crate::{reading::Room, view::When};

/// What every page says around its own part.
pub(crate) struct Frame {
    /// The page's title.
    pub(crate) title: String,
    /// The entry of the navigation that it belongs to.
    pub(crate) section: &'static str,
    /// The gateway's name.
    pub(crate) gateway: String,
    /// When it was made.
    pub(crate) made: When,
    /// Which records were read for it; empty if none were.
    pub(crate) coverage: String,
}

impl Frame {
    pub(crate) fn new(room: &Room, section: &'static str, title: impl Into<String>) -> Self {
        let now = room.now();
        Self {
            title: escaped(&title.into()).into_owned(),
            section,
            gateway: room.source.name(),
            made: When::of(now, now),
            coverage: String::new(),
        }
    }

    /// Says which records were read.
    pub(crate) fn covering(mut self, coverage: &str) -> Self {
        coverage.clone_into(&mut self.coverage);
        self
    }

    /// The mark of the navigation's entry where one is.
    pub(crate) fn current(&self, section: &str) -> &'static str {
        if self.section == section {
            " aria-current=\"page\""
        } else {
            ""
        }
    }
}

/// A page. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    status: StatusCode,
    html: Bytes,
    /// Seconds after which to ask again.
    again: Option<u64>,
}

/// A page without data of the gateway: a refusal, or that it is not made yet.
#[derive(Template)]
#[template(path = "notice.html")]
struct Notice<'a> {
    title: &'a str,
    code: &'a str,
    remedy: &'a str,
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login<'a> {
    next: &'a str,
    error: Option<&'a str>,
}

impl Page {
    /// A page from its template.
    pub(crate) fn of(status: StatusCode, template: &impl Template) -> Self {
        match template.render() {
            Ok(html) => Self {
                status,
                html: html.into(),
                again: None,
            },
            Err(error) => {
                tracing::error!(%error, "a page of the console cannot be written");
                Self {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    html: Bytes::from_static(
                        b"This page cannot be written; see the gateway's log.\n",
                    ),
                    again: None,
                }
            }
        }
    }

    pub(crate) fn ok(template: &impl Template) -> Self {
        Self::of(StatusCode::OK, template)
    }

    /// A refusal: what is wrong, and what to do.
    pub(crate) fn refused(status: StatusCode, code: &str, title: &str, remedy: &str) -> Self {
        let notice = Notice {
            title,
            code,
            remedy,
        };
        Self::of(status, &notice)
    }

    /// The form for the token; `next` is where to go on to.
    pub(crate) fn login(status: StatusCode, next: &str, error: Option<&str>) -> Self {
        Self::of(status, &Login { next, error })
    }

    pub(crate) fn still_reading() -> Self {
        Self::later(
            "console-reading",
            "The page is still being made.",
            "Reload it in some seconds: the records are read once for all who ask.",
        )
    }

    pub(crate) fn busy() -> Self {
        Self::later(
            "console-busy",
            "Too many different pages are being made.",
            "Reload it in some seconds.",
        )
    }

    pub(crate) fn broken() -> Self {
        Self::refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "console-broken",
            "This page could not be made.",
            "It is a fault of the gateway: see its log. The commands `countersign triage` and `explain` answer the same.",
        )
    }

    fn later(code: &str, title: &str, remedy: &str) -> Self {
        Self {
            again: Some(3),
            ..Self::refused(StatusCode::SERVICE_UNAVAILABLE, code, title, remedy)
        }
    }

    pub(crate) fn respond(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
        let mut answer = (self.status, kind, self.html).into_response();
        let headers = answer.headers_mut();
        if let Some(again) = self.again {
            headers.insert(header::RETRY_AFTER, again.into());
        }
        match self.status {
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("3"));
            }
            _ => {}
        }
        answer
    }
}

/// Adds the headers that keep a page to itself.
pub(crate) fn guarded(mut answer: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 7] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in HEADERS {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer
}
