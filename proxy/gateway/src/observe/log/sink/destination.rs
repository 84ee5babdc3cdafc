//! Where a sink writes: lines to standard output or files, or messages to a collector.

use std::{io, path::PathBuf};

use countersign_audit::ocsf::{self, EventChain};
use countersign_config::model::{RecordFormat, SinkPlace};
use countersign_core::metrics::Class;
use uuid::Uuid;

use super::{
    super::{outputs::Outputs, seal::Sealer},
    Lines,
    otlp::Exporter,
};
use crate::observe::otlp::SetupError;

/// Where lines go, and in which form.
#[derive(Debug)]
pub(in crate::observe::log) enum Destination {
    /// To standard output or files.
    Lines(Box<LinesOut>),
    /// To a collector.
    Otlp(Box<Exporter>),
}

/// Lines of one format.
#[derive(Debug)]
pub(in crate::observe::log) struct LinesOut {
    outputs: Outputs,
    format: RecordFormat,
    sealer: Option<Sealer>,
    /// Of events, by class.
    chains: [EventChain; 2],
}

/// Why a sink cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(in crate::observe::log) enum OpenError {
    /// The file.
    #[error("{} cannot be opened", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// What speaks to the collector.
    #[error("nothing can be sent to {endpoint}")]
    Otlp {
        /// The collector.
        endpoint: String,
        /// Why.
        source: SetupError,
    },
}

impl Destination {
    /// Opens it. A collector need not be there yet.
    pub(in crate::observe::log) fn open(
        place: &SinkPlace,
        gateway: &str,
        sealer: Option<Sealer>,
    ) -> Result<Self, OpenError> {
        let (outputs, format) = match place {
            SinkPlace::Stdout(format) => (Outputs::stream(Box::new(io::stdout())), *format),
            SinkPlace::File { path, format } => {
                let files =
                    Outputs::files(path).map_err(|(path, source)| OpenError::File(path, source))?;
                (files, *format)
            }
            SinkPlace::Otlp(collector) => {
                let exporter =
                    Exporter::new(collector, gateway).map_err(|source| OpenError::Otlp {
                        endpoint: collector.endpoint.clone(),
                        source,
                    })?;
                return Ok(Self::Otlp(Box::new(exporter)));
            }
        };
        Ok(Self::lines(outputs, format, sealer, gateway))
    }

    /// Lines to outputs that are open.
    pub(in crate::observe::log) fn lines(
        outputs: Outputs,
        format: RecordFormat,
        sealer: Option<Sealer>,
        gateway: &str,
    ) -> Self {
        Self::Lines(Box::new(LinesOut {
            outputs,
            format,
            sealer,
            chains: [0, 1].map(|_| EventChain::new(Uuid::now_v7().to_string(), gateway)),
        }))
    }

    /// Writes lines, all or none; returns how many records the receiver refused for good.
    ///
    /// # Errors
    /// With a sentence.
    pub(super) fn write(&mut self, lines: &Lines) -> Result<u64, String> {
        match self {
            Self::Lines(out) => out.write(lines.class, &lines.bytes).map(|()| 0),
            Self::Otlp(exporter) => exporter.export(&lines.bytes),
        }
    }

    pub(super) fn reopen(&mut self) {
        if let Self::Lines(out) = self {
            for class in Class::ALL {
                if let Err(error) = out.outputs.of(class).reopen() {
                    tracing::error!(%error, "a file of decision records cannot be opened again");
                }
            }
        }
    }

    /// Signs what was written, if it is time.
    pub(super) fn sign_if_due(&mut self) {
        if let Self::Lines(out) = self
            && let Some(sealer) = &mut out.sealer
            && sealer.is_due()
        {
            sign(sealer);
        }
    }

    /// Signs the last lines.
    pub(super) fn end(&mut self) {
        if let Self::Lines(out) = self
            && let Some(sealer) = &mut out.sealer
        {
            sign(sealer);
        }
    }
}

impl LinesOut {
    /// Whether its lines are the records as they are.
    pub(in crate::observe::log) fn is_plain(&self) -> bool {
        self.format == RecordFormat::Json
    }

    /// What it consists of.
    pub(in crate::observe::log) fn into_parts(self) -> (Outputs, Option<Sealer>) {
        (self.outputs, self.sealer)
    }

    fn write(&mut self, class: Class, lines: &[u8]) -> Result<(), String> {
        if self.format == RecordFormat::Ocsf {
            return self.write_events(class, lines);
        }
        let sealed = self.sealer.as_mut().map(|sealer| sealer.seal(class, lines));
        let written = sealed.as_ref().map_or(lines, |(sealed, _)| sealed);
        self.outputs.of(class).write(written).map_err(|error| {
            if let (Some(sealer), Some((_, before))) = (&mut self.sealer, sealed) {
                sealer.take_back(class, before);
            }
            countersign_core::files::reason(&error)
        })
    }
}

impl LinesOut {
    fn write_events(&mut self, class: Class, lines: &[u8]) -> Result<(), String> {
        let chain = &mut self.chains[super::index(class)];
        let before = chain.clone();
        let events = ocsf::events(lines, chain);
        self.outputs.of(class).write(&events).map_err(|error| {
            *chain = before;
            countersign_core::files::reason(&error)
        })
    }
}

fn sign(sealer: &mut Sealer) {
    if let Err(error) = sealer.sign() {
        tracing::error!(%error, "a checkpoint of the decision log cannot be written; the next one comes in its time");
    }
}
