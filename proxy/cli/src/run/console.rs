//! Connects the console with the gateway that it is part of.

use std::{path::PathBuf, sync::Arc};

use countersign_config::{
    model::{self, Governance, RecordFormat, SinkPlace},
    policy::PolicySet,
};
use countersign_console::Source;
use countersign_core::clock::Clock;
use countersign_gateway::{
    app::{App, View},
    observe::unidentified_file,
};
use serde_json::Value;

/// What the console needs of the Gateway file.
pub(super) struct Wanted {
    settings: model::Console,
    name: String,
    logs: Vec<PathBuf>,
    governance: Option<Governance>,
}

/// The gateway, as the console sees it.
struct Shown {
    view: View,
    wanted: Wanted,
}

impl Wanted {
    /// `None` if there is no console.
    pub(super) fn of(gateway: &model::Gateway) -> Option<Self> {
        Some(Self {
            settings: gateway.observe.console.clone()?,
            name: gateway.name.clone(),
            logs: logs(&gateway.observe.decisions),
            governance: gateway.governance.clone(),
        })
    }

    /// Adds the console to the gateway's admin endpoint.
    pub(super) fn add_to(self, app: &App) {
        let settings = self.settings.clone();
        let shown = Shown {
            view: app.view(),
            wanted: self,
        };
        let pages = countersign_console::router(Arc::new(shown), settings, Clock::system());
        app.serve_beside(pages);
    }
}

/// The files that have records as they are. One of them has all records.
fn logs(sinks: &[model::DecisionSink]) -> Vec<PathBuf> {
    let mut files = sinks.iter().filter_map(|sink| match &sink.place {
        SinkPlace::File {
            path,
            format: RecordFormat::Json,
        } => Some(path),
        SinkPlace::File { .. } | SinkPlace::Stdout(_) | SinkPlace::Otlp(_) => None,
    });
    files
        .next()
        .map_or_else(Vec::new, |path| vec![path.clone(), unidentified_file(path)])
}

impl Source for Shown {
    fn name(&self) -> String {
        self.wanted.name.clone()
    }

    fn policies(&self, see: &mut dyn FnMut(&PolicySet)) {
        self.view.policies(see);
    }

    fn credentials(&self) -> Value {
        // Texts, numbers and lists of them can always be written.
        serde_json::to_value(self.view.credentials()).unwrap_or_default()
    }

    fn readiness(&self) -> Value {
        self.view.readiness()
    }

    fn records(&self) -> Vec<u8> {
        let lines: Vec<_> = self.view.records().collect();
        lines.concat()
    }

    fn logs(&self) -> Vec<PathBuf> {
        self.wanted.logs.clone()
    }

    fn revisions(&self) -> Option<PathBuf> {
        self.view.revisions()
    }

    fn last_use(&self) -> Option<PathBuf> {
        self.view.last_use()
    }

    fn governance(&self) -> Option<Governance> {
        self.wanted.governance.clone()
    }
}
