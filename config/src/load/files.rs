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
    let named: BTreeSet<PathBuf> = paths.iter().flat_map(fs::canonicalize).collect();
    for path in paths {
        let path = path.as_ref();
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                let files = listed(path, &named, findings);
                if files.is_empty() {
                    nothing_found(path, findings);
                }
                for file in files {
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

fn listed(directory: &Path, named: &BTreeSet<PathBuf>, findings: &Findings) -> Vec<PathBuf> {
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
            Ok(entry) if has_resource_files(&entry) => below(&entry.path(), named, findings),
            Ok(_) => {}
            Err(error) => unreadable(directory, &error, findings),
        }
    }
    files.sort();
    files
}

/// Whether it is a directory that was probably meant to be read too. Those of a mounted `ConfigMap` begin with
/// a dot.
fn has_resource_files(entry: &fs::DirEntry) -> bool {
    if entry.file_name().to_string_lossy().starts_with('.') || !entry.path().is_dir() {
        return false;
    }
    let entries = fs::read_dir(entry.path()).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| is_resource_file(&name.to_string_lossy()))
}

fn below(directory: &Path, named: &BTreeSet<PathBuf>, findings: &Findings) {
    if fs::canonicalize(directory).is_ok_and(|directory| named.contains(&directory)) {
        return;
    }
    whole_file(
        Severity::Warning,
        directory,
        "not-read",
        "the files in this directory are not read: it is below one that is",
        "name it too, or move its files up",
        findings,
    );
}

/// A gateway may start before its policy is there, so this is a warning; whoever checks has named the wrong
/// place.
fn nothing_found(directory: &Path, findings: &Findings) {
    whole_file(
        Severity::Warning,
        directory,
        NOTHING_FOUND,
        "the directory has no resources: no file in it ends in `.yaml` or `.yml`",
        "name the directory that has the files; those below it and hidden ones are not read",
        findings,
    );
}

/// The same for files that have only comments.
pub(super) fn no_documents(sources: &[Source], findings: &Findings) {
    for source in sources {
        whole_file(
            Severity::Warning,
            &source.path,
            NOTHING_FOUND,
            "the file has no resource",
            "write one, or name the file that has them",
            findings,
        );
    }
}

/// The code for places in which there is nothing.
pub(super) const NOTHING_FOUND: &str = "nothing-found";

fn is_resource_file(name: &str) -> bool {
    let extension = Path::new(name).extension();
    !name.starts_with('.')
        && extension.is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Reads a file unless it was already read under another name or through another directory.
fn read_once(path: &Path, seen: &mut FilesRead, findings: &Findings) -> Option<Source> {
    match try_read(path, seen) {
        Ok(text) => text.map(|text| {
            let source = Source {
                path: path.to_owned(),
                text,
                catalog: false,
            };
            not_empty(&source, findings);
            source
        }),
        Err(error) => {
            unreadable(path, &error, findings);
            None
        }
    }
}

fn not_empty(source: &Source, findings: &Findings) {
    if source.text.trim().is_empty() {
        whole_file(
            Severity::Error,
            &source.path,
            "empty-file",
            "the file is empty; it may be half written",
            "finish it, or remove it",
            findings,
        );
    }
}

/// What is checked of texts that were read earlier.
pub(super) fn check_texts(sources: &[Source], findings: &Findings) {
    for source in sources {
        not_empty(source, findings);
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
        Severity::Error,
        path,
        "unreadable",
        &format!(
            "{} cannot be read: {}",
            shown::path(path),
            shown::io_error(error)
        ),
        "check that it exists and that this process can read it",
        findings,
    );
}

fn whole_file(
    severity: Severity,
    path: &Path,
    code: &'static str,
    message: &str,
    remedy: &str,
    findings: &Findings,
) {
    let place = Place {
        file: path.to_owned(),
        line: 0,
        column: 0,
        width: 0,
        snippet: String::new(),
    };
    findings.add(severity, Some(place), code, message, remedy);
}
