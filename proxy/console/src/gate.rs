//! Who may see a page: this machine or a name of the configuration, with the token if there is one, and only to look.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use axum::{
    body::to_bytes,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use countersign_config::{host::Host, model};
use countersign_core::{
    clock::Clock,
    secret::Secret,
    secret_file::{self, SecretFileError},
};
use http::{request::Parts, uri::Authority};

use crate::{
    Console,
    page::{self, Page},
    session::{COOKIE, Guesses, LIFE, Sessions, is_token},
};

/// The shortest token that is accepted.
const SHORTEST_TOKEN: usize = 20;

/// The longest query.
const LONGEST_QUERY: usize = 4096;

/// The largest login form.
const LARGEST_FORM: usize = 16 * 1024;

/// Where the login form is.
const LOGIN: &str = "/console/login";

/// What the login form itself needs.
const OPEN: [&str; 3] = [LOGIN, "/console/console.css", "/console/console.js"];

/// Who may open the console. Cheap to clone; clones share.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Shared>);

struct Shared {
    settings: model::Console,
    /// `None` if the system has no randomness; then nobody gets a session.
    sessions: Option<Sessions>,
    guesses: Guesses,
    clock: Clock,
}

impl Gate {
    pub(crate) fn new(settings: model::Console, clock: Clock) -> Self {
        Self(Arc::new(Shared {
            settings,
            sessions: Sessions::new(),
            guesses: Guesses::new(),
            clock,
        }))
    }

    /// Whether a request may be answered at all, before the token is looked at.
    fn check(&self, request: &Parts) -> Result<(), Page> {
        let hosts = &self.0.settings.hosts;
        let client = request.extensions.get::<ConnectInfo<SocketAddr>>();
        let is_local = client.is_some_and(|client| client.0.ip().to_canonical().is_loopback());
        if !is_local && hosts.is_empty() {
            return Err(Page::refused(
                StatusCode::FORBIDDEN,
                "console-elsewhere",
                "The console is shown to this machine alone.",
                "Run `kubectl port-forward POD 9901` and open http://127.0.0.1:9901/console, or name a host and a token in `observe.console`.",
            ));
        }
        if !is_known(&request.headers, hosts) {
            return Err(Page::refused(
                StatusCode::MISDIRECTED_REQUEST,
                "console-host",
                "The console does not answer to this name.",
                "Open it by 127.0.0.1 or localhost, or add the name to `observe.console.hosts`.",
            ));
        }
        let is_login = request.uri.path() == LOGIN && request.method == Method::POST;
        if !is_login && !matches!(request.method, Method::GET | Method::HEAD) {
            return Err(Page::refused(
                StatusCode::METHOD_NOT_ALLOWED,
                "console-method",
                "The console only shows.",
                "Use GET; what the gateway does is changed by its resources.",
            ));
        }
        if request
            .uri
            .query()
            .is_some_and(|query| query.len() > LONGEST_QUERY)
        {
            return Err(Page::refused(
                StatusCode::URI_TOO_LONG,
                "console-query",
                "The question is too long.",
                "Ask with fewer than 4,096 characters.",
            ));
        }
        Ok(())
    }

    /// The token that is asked for; `None` if none is.
    async fn token(&self) -> Result<Option<Secret>, Page> {
        let Some(file) = &self.0.settings.token_file else {
            return Ok(None);
        };
        let token = secret_file::read(file).await;
        let token = token.map_err(|error| unusable(file, error))?;
        if token.expose().len() < SHORTEST_TOKEN {
            tracing::warn!(file = %file.display(), "the console's token is shorter than 20 characters");
            return Err(Page::refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "console-token-short",
                "The console's token is shorter than 20 characters, so that nobody is let in.",
                "Write a longer one to the file of `observe.console.tokenFile`: `openssl rand -hex 32`.",
            ));
        }
        Ok(Some(token))
    }

    /// Whether somebody has shown the token, by cookie or header.
    fn has_shown(&self, headers: &HeaderMap, token: &Secret) -> Result<bool, Page> {
        let now = self.0.clock.now();
        let mut cookies = cookies(headers);
        if let Some(sessions) = &self.0.sessions
            && cookies.any(|value| sessions.is_valid(value, token, now))
        {
            return Ok(true);
        }
        let Some(shown) = bearer(headers) else {
            return Ok(false);
        };
        self.try_token(shown, token)
    }

    fn try_token(&self, shown: &str, token: &Secret) -> Result<bool, Page> {
        if !self.0.guesses.may_try() {
            return Err(Page::refused(
                StatusCode::TOO_MANY_REQUESTS,
                "console-guesses",
                "Too many wrong tokens were shown.",
                "Wait some seconds; sessions that are open go on.",
            ));
        }
        let is_right = is_token(shown, token);
        if !is_right {
            self.0.guesses.was_wrong();
        }
        Ok(is_right)
    }
}

/// Lets through who may see pages, and gives every answer the headers that keep pages to themselves.
pub(crate) async fn admit(
    State(console): State<Console>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let answer = match admitted(&console.gate, &parts).await {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(page) => page.respond(),
    };
    page::guarded(answer)
}

async fn admitted(gate: &Gate, request: &Parts) -> Result<(), Page> {
    gate.check(request)?;
    if OPEN.contains(&request.uri.path()) {
        return Ok(());
    }
    let Some(token) = gate.token().await? else {
        return Ok(());
    };
    if gate.has_shown(&request.headers, &token)? {
        return Ok(());
    }
    let asked = request.uri.path_and_query();
    let asked = asked.map_or("/console", |asked| asked.as_str());
    Err(Page::login(StatusCode::UNAUTHORIZED, asked, None))
}

/// The form for the token.
pub(crate) async fn login_form() -> Response {
    Page::login(StatusCode::OK, "/console", None).respond()
}

/// Takes the token from the form, and gives a session for it.
pub(crate) async fn login(State(console): State<Console>, request: Request) -> Response {
    let gate = console.gate;
    match logged_in(&gate, request).await {
        Ok((cookie, next)) => {
            let mut answer = Redirect::to(&next).into_response();
            answer.headers_mut().insert(header::SET_COOKIE, cookie);
            answer
        }
        Err(page) => page.respond(),
    }
}

async fn logged_in(gate: &Gate, request: Request) -> Result<(HeaderValue, String), Page> {
    if !is_from_own_form(request.headers()) {
        return Err(Page::refused(
            StatusCode::FORBIDDEN,
            "console-form",
            "The form was not sent from the console's own page.",
            "Open /console/login and enter the token there.",
        ));
    }
    let is_remote = !request.headers().get(header::HOST).is_some_and(is_own_name);
    let Ok(form) = to_bytes(request.into_body(), LARGEST_FORM).await else {
        return Err(Page::refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            "console-form",
            "The form is too large.",
            "Enter the token alone.",
        ));
    };
    let (mut shown, mut next) = (None, None);
    for (name, value) in form_urlencoded::parse(&form) {
        match &*name {
            "token" => shown = Some(Secret::new(value.trim().to_owned())),
            "next" => next = Some(value.into_owned()),
            _ => {}
        }
    }
    let next = next.filter(|next| is_own_page(next));
    let next = next.unwrap_or_else(|| "/console".to_owned());
    let Some(token) = gate.token().await? else {
        return Err(Page::refused(
            StatusCode::NOT_FOUND,
            "console-no-token",
            "This console asks for no token.",
            "Open /console.",
        ));
    };
    let shown = shown.unwrap_or_else(|| Secret::new(String::new()));
    if !gate.try_token(shown.expose(), &token)? {
        let why = "This is not the token.";
        return Err(Page::login(StatusCode::UNAUTHORIZED, &next, Some(why)));
    }
    let cookie = gate
        .0
        .sessions
        .as_ref()
        .map(|sessions| sessions.cookie(&token, gate.0.clock.now()));
    // Names of others are reached by TLS that ends before the gateway.
    let secure = if is_remote { "; Secure" } else { "" };
    let age = LIFE.as_secs();
    let cookie = cookie.map(|value| {
        format!("{COOKIE}={value}; HttpOnly; SameSite=Strict; Path=/console; Max-Age={age}{secure}")
    });
    let cookie = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok());
    Ok((cookie.ok_or_else(Page::broken)?, next))
}

pub(crate) async fn not_found() -> Response {
    Page::refused(
        StatusCode::NOT_FOUND,
        "console-page",
        "The console has no such page.",
        "Begin at /console.",
    )
    .respond()
}

fn unusable(file: &Path, error: SecretFileError) -> Page {
    tracing::warn!(file = %file.display(), %error, "the console's token cannot be used");
    Page::refused(
        StatusCode::SERVICE_UNAVAILABLE,
        "console-token-file",
        "The console's token cannot be read, so that nobody is let in.",
        "See the gateway's log, and mend the file of `observe.console.tokenFile`.",
    )
}

/// Whether exactly one `Host` is there, and is this machine's or one of the names.
fn is_known(headers: &HeaderMap, hosts: &[Host]) -> bool {
    let mut written = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (written.next(), written.next()) else {
        return false;
    };
    if is_own_name(host) {
        return true;
    }
    let host = name(host).and_then(|host| Host::parse(&host).ok());
    host.is_some_and(|host| hosts.contains(&host))
}

/// Whether it is a name that only means this machine.
fn is_own_name(host: &HeaderValue) -> bool {
    name(host).is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let address = address.parse::<IpAddr>();
        address.is_ok_and(|address| address.is_loopback()) || host.eq_ignore_ascii_case("localhost")
    })
}

fn name(host: &HeaderValue) -> Option<String> {
    let authority: Authority = host.to_str().ok()?.parse().ok()?;
    let has_user = authority.as_str().contains('@');
    (!has_user).then(|| authority.host().to_owned())
}

/// Whether a browser says that a form was sent from a page of the same origin. Where it does not say so
/// (`Sec-Fetch-Site` is sent to loopback and over TLS), the page's origin must be this host.
fn is_from_own_form(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match (text("sec-fetch-site"), text("origin"), text("host")) {
        (Some(site), ..) => site == "same-origin",
        (None, Some(origin), Some(host)) => {
            let origin = origin.split_once("://").map(|(_, origin)| origin);
            origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
        }
        (None, ..) => false,
    }
}

/// Whether a place to go on to is a page of the console.
fn is_own_page(next: &str) -> bool {
    let rest = next.strip_prefix("/console");
    let begins = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    let visible = next
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    begins && visible && !next.contains("//") && !next.starts_with(LOGIN)
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).iter();
    let texts = lines.filter_map(|line| line.to_str().ok());
    let pairs = texts.flat_map(|line| line.split(';'));
    pairs.filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
