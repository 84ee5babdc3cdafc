//! What pages beside the admin endpoint may see of a gateway: nothing of it is secret, and nothing can be changed.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use countersign_config::policy::PolicySet;
use countersign_credential::CredentialsStatus;

use super::{App, state::GatewayState};
use crate::observe::admin::AdminState;

/// A gateway, seen from outside. Cheap to clone; it keeps the gateway's state alive.
#[derive(Debug, Clone)]
pub struct View {
    gateway: Arc<GatewayState>,
    state: AdminState,
}

impl App {
    /// What pages beside the admin endpoint may see.
    pub fn view(&self) -> View {
        View {
            gateway: Arc::clone(&self.gateway),
            state: self.state.clone(),
        }
    }

    /// Adds pages to the admin endpoint. Each of their requests has the client's address as
    /// `ConnectInfo<SocketAddr>`. Must be called before the gateway runs.
    pub fn serve_beside(&self, pages: axum::Router<()>) {
        self.state.set_pages(pages);
    }
}

impl View {
    /// Shows the policies in force.
    pub fn policies(&self, see: impl FnOnce(&PolicySet)) {
        see(self.gateway.access.snapshots.load_full().policies());
    }

    /// The status of the credentials, never their values: as `/credentials` shows it.
    pub fn credentials(&self) -> CredentialsStatus {
        self.state.credentials()
    }

    /// Whether requests can be served, and what hinders that: as `/readyz` shows it.
    pub fn readiness(&self) -> serde_json::Value {
        self.state.readiness()
    }

    /// The latest lines of the decision log, two megabytes at most: as `/records` shows them. They are shared and not
    /// copied.
    pub fn records(&self) -> impl Iterator<Item = Bytes> + use<> {
        self.state.records()
    }

    /// The directory of the kept revisions, if there is one.
    pub fn revisions(&self) -> Option<PathBuf> {
        self.state.history()
    }

    /// The file with the last uses, if there is one.
    pub fn last_use(&self) -> Option<PathBuf> {
        self.state.last_use()
    }
}
