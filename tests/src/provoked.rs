//! Which reasons the tests provoke: records are noted in a file, and `tests/run` compares it with the list of all reasons.

use std::{
    collections::HashSet,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
    sync::{Mutex, PoisonError},
};

use serde_json::Value;

/// The reasons that this process has noted.
static NOTED: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// Notes one record of each reason, in the file that `COUNTERSIGN_REASONS_FILE` names, a line each: the reason, a space, the record.
/// Without it, nothing.
///
/// # Panics
/// When that file cannot be written.
pub fn note<'r>(records: impl IntoIterator<Item = &'r Value>) {
    let Some(path) = std::env::var_os("COUNTERSIGN_REASONS_FILE") else {
        return;
    };
    let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
    let noted = noted.get_or_insert_default();
    let mut lines = String::new();
    for record in records {
        let reason = record["reason"].as_str().unwrap_or_default();
        let blamed = record["schema"] == "countersign.decision/v1" && record["blame"].is_string();
        if blamed && noted.insert(reason.to_owned()) {
            let _ = writeln!(lines, "{reason} {record}");
        }
    }
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    // In one write: tests run side by side.
    let written = file.and_then(|mut file| file.write_all(lines.as_bytes()));
    written.expect("the file of COUNTERSIGN_REASONS_FILE can be written");
}

/// Notes the records in a decision log, if there is one.
pub fn note_log(path: &Path) {
    note_text(&fs::read_to_string(path).unwrap_or_default());
}

/// Notes the records among some lines.
pub fn note_text(text: &str) {
    if std::env::var_os("COUNTERSIGN_REASONS_FILE").is_none() {
        return;
    }
    let lines = text
        .lines()
        .filter(|line| line.contains("countersign.decision/v1"));
    let records: Vec<Value> = lines
        .filter_map(|line| serde_json::from_str(&line[line.find('{')?..]).ok())
        .collect();
    note(&records);
}
