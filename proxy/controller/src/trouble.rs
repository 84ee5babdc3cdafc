//! Why the API server cannot be read, in sentences.

use kube::{core::Status, runtime::watcher};

use crate::client::token_trouble;

/// The API server's own answer to a watch or to a list, if it gave one.
pub(crate) fn answer(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

pub(crate) fn is_forbidden(error: &watcher::Error) -> bool {
    answer(error).is_some_and(|status| status.code == 403)
}

/// What happened, without the words of libraries.
pub(crate) fn sentence(error: &watcher::Error) -> String {
    let Some(status) = answer(error) else {
        return token_trouble(error)
            .unwrap_or_else(|| "the API server cannot be reached".to_owned());
    };
    match status.code {
        401 => "the API server does not accept the gateway's token".to_owned(),
        403 => "the API server does not let the gateway read them".to_owned(),
        410 => "the API server has forgotten the changes since they were read".to_owned(),
        429 => "the API server has too much to do".to_owned(),
        code => format!("the API server answers with status {code}"),
    }
}
