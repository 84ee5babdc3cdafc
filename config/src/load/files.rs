//! Finds the files to read, and reads them.
//!
//! Only files directly in a directory count, and none whose name begins with a dot. So a mounted
//! `ConfigMap` is read correctly: its visible names are symbolic links through `..data`, and the dated
//! directories behind it are skipped.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use crate::{
    problem::{Place, Severity},
    shown,
    yaml::{Findings, Source},
};

/// Far more than any set of resources needs; guards against a wrong path.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;
const TOO_LARGE: &str = "it is larger than 4 MiB";
/// The same for all files together.
const LARGEST_WHOLE: u64 = 64 * 1024 * 1024;

/// Reads all files; a file that cannot be read is a finding that names it.
pub(super) fn read<P: AsRef<Path>>(paths: &[P], findings: &Findings) -> Vec<Source> {
    let mut seen = FilesRead::default();
    let mut sources = Vec::new();
    for path in paths {
        let path = path.as_ref();
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                for file in listed(path, findings) {
                    sources.extend(read_once(&file, &mut seen, findings));
                }
            }
            Ok(_) => sources.extend(read_once(path, &mut seen, findings)),
            Err(error) => unreadable(path, &error, findings),
        }
    }
    sources
}

/// The files read so far.
#[derive(Default)]
struct FilesRead {
    files: BTreeSet<PathBuf>,
    bytes: u64,
}

fn listed(directory: &Path, findings: &Findings) -> Vec<PathBuf> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            unreadable(directory, &error, findings);
            return Vec::new();
        }
    };
    let mut files = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) if is_resource_file(&entry.file_name().to_string_lossy()) => {
                files.push(entry.path());
            }
            Ok(_) => {}
            Err(error) => unreadable(directory, &error, findings),
        }
    }
    files.sort();
    files
}

fn is_resource_file(name: &str) -> bool {
    let extension = Path::new(name).extension();
    !name.starts_with('.')
        && extension.is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Reads a file unless it was already read under another name or through another directory.
fn read_once(path: &Path, seen: &mut FilesRead, findings: &Findings) -> Option<Source> {
    match try_read(path, seen) {
        Ok(text) => text.map(|text| {
            if text.trim().is_empty() {
                whole_file(
                    path,
                    "empty-file",
                    "the file is empty; it may be half written",
                    "finish it, or remove it",
                    findings,
                );
            }
            Source {
                path: path.to_owned(),
                text,
                catalog: false,
            }
        }),
        Err(error) => {
            unreadable(path, &error, findings);
            None
        }
    }
}

fn try_read(path: &Path, seen: &mut FilesRead) -> io::Result<Option<String>> {
    let found = fs::metadata(path)?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if found.len() > LARGEST_FILE {
        return Err(io::Error::other(TOO_LARGE));
    }
    if !seen.files.insert(fs::canonicalize(path)?) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    // The file may have grown after its size was checked.
    fs::File::open(path)?
        .take(LARGEST_FILE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(io::Error::other(TOO_LARGE));
    }
    seen.bytes += bytes.len() as u64;
    if seen.bytes > LARGEST_WHOLE {
        return Err(io::Error::other(
            "all files together are larger than 64 MiB",
        ));
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| io::Error::other("it is not UTF-8 text"))
}

fn unreadable(path: &Path, error: &io::Error, findings: &Findings) {
    whole_file(
        path,
        "unreadable",
        &format!("{} cannot be read: {error}", shown::path(path)),
        "check that it exists and that this process can read it",
        findings,
    );
}

fn whole_file(path: &Path, code: &'static str, message: &str, remedy: &str, findings: &Findings) {
    let place = Place {
        file: path.to_owned(),
        line: 0,
        column: 0,
        width: 0,
        snippet: String::new(),
    };
    findings.add(Severity::Error, Some(place), code, message, remedy);
}
