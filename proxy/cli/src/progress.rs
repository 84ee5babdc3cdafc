//! How far a command is that reads much: on a terminal, and nowhere else.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use countersign_insight::reader::{Counts, Reader};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often what is shown changes.
const TICK: Duration = Duration::from_millis(120);

/// What is shown; it disappears when this is dropped.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Shows that something is being done.
pub(super) fn busy(what: &str) -> Progress {
    let bar = bar();
    bar.set_message(what.to_owned());
    if !bar.is_hidden() {
        bar.enable_steady_tick(TICK);
    }
    Progress(bar)
}

/// Shows how many records were read.
pub(super) fn of(reader: &mut Reader) -> Progress {
    let bar = bar();
    let shown = bar.clone();
    if !bar.is_hidden() {
        reader.tell(move |counts: &Counts| {
            shown.set_message(format!("{} records read", counts.records));
            shown.tick();
        });
    }
    Progress(bar)
}

fn bar() -> ProgressBar {
    let dumb = std::env::var_os("TERM").is_some_and(|kind| kind == "dumb");
    let target = if io::stderr().is_terminal() && !dumb {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar
}
