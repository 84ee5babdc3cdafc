//! The methods that this stand-in knows, with the token and the scope that each needs.

/// The kinds of token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bot,
    User,
    App,
}

/// What a method asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// A bot or user token, and perhaps a scope.
    Workspace(Option<&'static str>),
    /// A user's token: no bot can have the scope.
    User,
    /// The app-level token, in the header only.
    App,
    /// A config token, of which this stand-in has none.
    Config,
    /// The client's id and secret.
    Client,
}

/// What a method needs; `None` for one that does not exist.
pub(super) fn of(method: &str) -> Option<Needs> {
    Some(match method {
        "auth.test" | "auth.revoke" => Needs::Workspace(None),
        "chat.postMessage" => Needs::Workspace(Some("chat:write")),
        "conversations.history" => Needs::Workspace(Some("channels:history")),
        "files.getUploadURLExternal" | "files.completeUploadExternal" => {
            Needs::Workspace(Some("files:write"))
        }
        "files.info" => Needs::Workspace(Some("files:read")),
        "search.messages" | "search.all" | "users.setPhoto" | "users.profile.set"
        | "reminders.add" | "stars.list" | "dnd.setSnooze" | "admin.users.list" => Needs::User,
        "apps.connections.open" => Needs::App,
        "apps.manifest.export" => Needs::Config,
        "oauth.v2.access" | "oauth.v2.exchange" => Needs::Client,
        _ => return None,
    })
}

/// All scopes that the methods here need.
pub(super) const ALL: [&str; 4] = [
    "chat:write",
    "channels:history",
    "files:write",
    "files:read",
];
