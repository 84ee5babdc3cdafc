//! `/metrics`, in the format that the scraper prefers.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use countersign_core::metrics::CredentialStanding;

use super::AdminState;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(State(state): State<AdminState>, headers: HeaderMap) -> Response {
    let _one_at_a_time = state.0.scraping.lock().await;
    let metrics = &state.0.metrics;
    show_credentials(&state);
    let accept = headers.get_all(header::ACCEPT).iter();
    let accept: Vec<_> = accept.filter_map(|value| value.to_str().ok()).collect();
    let (kind, text) = if prefers_plain(&accept.join(",")) {
        (PLAIN, metrics.encode_plain())
    } else {
        (OPEN_METRICS, metrics.encode())
    };
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Reads how the credentials stand, except for what each caller has for itself.
fn show_credentials(state: &AdminState) {
    let (Some((credentials, healths)), Some(log)) = (state.0.credentials.get(), state.0.log.get())
    else {
        return;
    };
    let status = credentials.status().with(healths);
    let now = log.now().as_second();
    let shared = status.credentials.iter().filter(|one| one.caller.is_none());
    state.0.metrics.credentials(shared.map(|one| {
        CredentialStanding {
            name: &one.name,
            state: one.state.as_str(),
            ends: one
                .expires_in_s
                .map(|left| now.saturating_add_unsigned(left)),
        }
    }));
}

/// Whether a scraper that accepts this prefers the older format. One that does not care gets the newer.
fn prefers_plain(accept: &str) -> bool {
    let quality = |wanted: &str| {
        let of = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let is_it = parts.next()?.eq_ignore_ascii_case(wanted);
            let quality = parts.find_map(|part| part.strip_prefix("q="));
            is_it.then(|| quality.map_or(1.0, |text| text.parse::<f32>().unwrap_or(0.0)))
        };
        accept.split(',').filter_map(of).fold(0.0, f32::max)
    };
    quality("text/plain") > quality("application/openmetrics-text")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing("", false)]
    #[case::anything("*/*", false)]
    #[case::prometheus(
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        false
    )]
    #[case::plain("text/plain", true)]
    #[case::plain_first(
        "application/openmetrics-text;q=0.3, text/plain;version=0.0.4;q=0.6",
        true
    )]
    #[case::a_browser("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", false)]
    fn a_scraper_gets_what_it_prefers(#[case] accept: &str, #[case] plain: bool) {
        assert_eq!(prefers_plain(accept), plain);
    }
}
