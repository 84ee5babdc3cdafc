//! Files: the three steps of an upload, and downloads of private files.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header::LOCATION};
use serde_json::{Value, json};

use super::{Outcome, SlackApi, arguments::Arguments, members, methods::TEAM, scopes::Needs};
use crate::{
    fake::{Body, Received, body},
    random,
};

#[derive(Default)]
pub(super) struct Files(Mutex<Vec<File>>);

struct File {
    id: String,
    name: String,
    /// What the upload announced, and so what the file has.
    length: u64,
    upload_path: String,
    content: Content,
    state: State,
}

enum Content {
    /// At most what the memory keeps of a body.
    Kept(Bytes),
    /// `body::long`.
    Pattern,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Announced,
    Uploaded,
    Completed,
}

impl File {
    fn private_path(&self) -> String {
        format!("/files-pri/{TEAM}-{}/{}", self.id, self.name)
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "title": self.name,
            "size": self.length,
            "url_private": format!("https://files.slack.com{}", self.private_path()),
        })
    }
}

impl Files {
    pub(super) fn put(&self, name: &str, length: u64) -> String {
        let file = File {
            id: format!("F{}", random::upper(10)),
            name: name.to_owned(),
            length,
            upload_path: String::new(),
            content: Content::Pattern,
            state: State::Completed,
        };
        let path = file.private_path();
        self.lock().push(file);
        path
    }

    pub(super) fn completed(&self) -> Vec<(String, u64)> {
        self.lock()
            .iter()
            .filter(|file| file.state == State::Completed)
            .map(|file| (file.name.clone(), file.length))
            .collect()
    }

    /// `files.getUploadURLExternal`.
    pub(super) fn start(&self, arguments: &Arguments) -> Outcome {
        let name = arguments.text("filename").ok_or("invalid_arguments")?;
        let length = arguments.number("length")?.ok_or("invalid_arguments")?;
        if length == 0 {
            return Err("invalid_arguments".into());
        }
        let file = File {
            id: format!("F{}", random::upper(10)),
            name: name.to_owned(),
            length,
            upload_path: format!("/upload/v1/{}", random::alphanumeric(96)),
            content: Content::Kept(Bytes::new()),
            state: State::Announced,
        };
        let answer = json!({
            "upload_url": format!("https://files.slack.com{}", file.upload_path),
            "file_id": file.id,
        });
        self.lock().push(file);
        Ok(members(answer))
    }

    /// `files.completeUploadExternal`: once for each file.
    pub(super) fn complete(&self, arguments: &Arguments) -> Outcome {
        let listed = arguments.text("files").ok_or("invalid_arguments")?;
        let listed: Vec<Value> = serde_json::from_str(listed).map_err(|_| "invalid_arguments")?;
        let mut files = self.lock();
        let mut found = Vec::new();
        for entry in &listed {
            let place = files
                .iter()
                .position(|file| entry["id"] == *file.id && file.state == State::Uploaded)
                .ok_or("file_not_found")?;
            found.push(place);
        }
        if found.is_empty() {
            return Err("invalid_arguments".into());
        }
        let mut done = Vec::new();
        for place in found {
            files[place].state = State::Completed;
            done.push(files[place].json());
        }
        Ok(members(json!({"files": done})))
    }

    /// `files.info`.
    pub(super) fn info(&self, arguments: &Arguments) -> Outcome {
        let id = arguments.text("file").ok_or("file_not_found")?;
        let files = self.lock();
        let file = files
            .iter()
            .find(|file| file.id == id && file.state == State::Completed)
            .ok_or("file_not_found")?;
        Ok(members(json!({"file": file.json()})))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlackApi {
    /// Answers at files.slack.com.
    pub(super) fn file(&self, received: &Received) -> Response<Body> {
        if received.path.starts_with("/upload/v1/") {
            self.upload(received)
        } else if received.path.starts_with("/files-pri/") && received.method == Method::GET {
            self.download(received)
        } else {
            body::text(StatusCode::NOT_FOUND, "not found\n")
        }
    }

    /// The URL is the permission. A credential has no business here, so that one is an error,
    /// which is stricter than Slack.
    fn upload(&self, received: &Received) -> Response<Body> {
        let refuse = |status, why| body::text(status, why);
        if received.method != Method::POST {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "use POST\n");
        }
        if received.headers.contains_key("authorization") {
            return refuse(StatusCode::FORBIDDEN, "a credential on an upload URL\n");
        }
        let mut files = self.files.lock();
        let announced = files
            .iter_mut()
            .find(|file| file.upload_path == received.path && file.state == State::Announced);
        let Some(file) = announced else {
            return refuse(StatusCode::NOT_FOUND, "no such upload\n");
        };
        let length = match received.parts.as_deref() {
            None => received.body_length,
            Some(parts) => parts
                .iter()
                .filter(|part| part.filename.is_some())
                .map(|part| part.length)
                .sum(),
        };
        if !received.complete || length != file.length {
            return refuse(StatusCode::BAD_REQUEST, "not the announced length\n");
        }
        file.state = State::Uploaded;
        file.content = Content::Kept(received.body.clone());
        body::text(StatusCode::OK, &format!("OK - {length}"))
    }

    /// Without a good token Slack redirects to its login page.
    fn download(&self, received: &Received) -> Response<Body> {
        let checked = self.tokens().authenticate(
            received,
            Needs::Workspace(Some("files:read")),
            self.clock.now(),
        );
        if checked.is_err() {
            let mut response = body::text(StatusCode::FOUND, "");
            response.headers_mut().insert(
                LOCATION,
                HeaderValue::from_static("https://acme.slack.com/?redir=%2Ffiles-pri%2F"),
            );
            return response;
        }
        let files = self.files.lock();
        let found = files
            .iter()
            .find(|file| file.state == State::Completed && file.private_path() == received.path);
        match found {
            None => body::text(StatusCode::NOT_FOUND, "no such file\n"),
            Some(file) => Response::new(match &file.content {
                Content::Kept(bytes) => body::full(bytes.clone()),
                Content::Pattern => body::long(file.length),
            }),
        }
    }
}
