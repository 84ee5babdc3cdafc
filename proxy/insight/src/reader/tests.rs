use std::{fs, io::Write as _, path::Path};

use flate2::{Compression, write::GzEncoder};

use super::*;

fn record(second: u32, id: &str) -> String {
    format!(
        r#"{{"schema":"countersign.decision/v1","time":"2026-11-23T05:10:{second:02}.000Z","id":"{id}","outcome":"permitted","reason":"permitted"}}"#
    )
}

fn ids(reader: &mut Reader) -> Vec<String> {
    let mut ids = Vec::new();
    reader.each(|line| {
        if let Entry::Decision(decision) = &line.entry {
            ids.push(decision.id.to_string());
        }
    });
    ids
}

fn read(text: &str) -> (Vec<String>, Counts) {
    let mut reader = Reader::stream("-", std::io::Cursor::new(text.as_bytes().to_vec()));
    let ids = ids(&mut reader);
    (ids, reader.counts().clone())
}

fn gzip(path: &Path, text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    let bytes = encoder.finish().unwrap();
    fs::write(path, &bytes).unwrap();
    bytes
}

#[test]
fn rotated_and_compressed_files_come_in_order_and_gateways_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(
        path("a.jsonl"),
        record(40, "a5") + "\n" + &record(50, "a6") + "\n",
    )
    .unwrap();
    fs::write(
        path("a.jsonl.1"),
        record(20, "a3") + "\n" + &record(30, "a4") + "\n",
    )
    .unwrap();
    gzip(
        &path("a.jsonl.2.gz"),
        &(record(1, "a1") + "\n" + &record(10, "a2") + "\n"),
    );
    // Compressed, though its name does not say so.
    gzip(
        &path("b.jsonl"),
        &(record(2, "b1") + "\n" + &record(25, "b2") + "\n" + &record(45, "b3") + "\n"),
    );
    let expected = ["a1", "b1", "a2", "a3", "b2", "a4", "a5", "b3", "a6"];
    let mut reader = Reader::open(&[folder.path().to_owned()]).unwrap();
    assert_eq!(ids(&mut reader), expected);
    assert_eq!(reader.counts().records, 9);
    assert_eq!(reader.counts().notes(), Vec::<String>::new());
    // Each file once, though it is named twice.
    let mut again = Reader::open(&[path("b.jsonl"), folder.path().to_owned()]).unwrap();
    assert_eq!(ids(&mut again), expected);
}

#[test]
fn lines_that_are_not_ours_are_counted() {
    let text = format!(
        "starting\n\n{}\n{{\"level\":\"INFO\"}}\n\u{fffd}\n{}\n",
        record(1, "one"),
        record(2, "two")
    );
    let (ids, counts) = read(&text);
    assert_eq!(ids, ["one", "two"]);
    assert_eq!((counts.lines, counts.records, counts.foreign), (6, 2, 3));
    assert_eq!(counts.bytes, text.len() as u64);
}

#[test]
fn a_cut_last_line_is_told_and_harms_no_other() {
    let text = record(1, "one") + "\n" + &record(2, "two")[..70];
    let (ids, counts) = read(&text);
    assert_eq!(ids, ["one"]);
    assert_eq!((counts.truncated, counts.broken), (1, 0));
    // Cut in its schema.
    let (_, counts) = read(&(record(1, "one") + "\n" + &record(2, "two")[..28]));
    assert_eq!((counts.truncated, counts.broken), (1, 0));
    // Whole, though no line feed follows.
    let (ids, counts) = read(&record(1, "one"));
    assert_eq!((ids.len(), counts.truncated), (1, 0));
}

#[test]
fn a_broken_line_has_its_place() {
    let text =
        record(1, "one") + "\n" + &record(2, "two")[..70] + "\n" + &record(3, "three") + "\n";
    let (ids, counts) = read(&text);
    assert_eq!(ids, ["one", "three"]);
    assert_eq!(counts.broken, 1);
    assert_eq!((&*counts.places[0].file, counts.places[0].line), ("-", 2));
}

#[test]
fn other_versions_are_read_as_far_as_they_are_known() {
    let old = r#"{"schema":"countersign.decision/v1","time":"2026-11-23T05:10:01.000Z","id":"old","outcome":"refused","reason":"identity_missing"}"#;
    let new = r#"{"schema":"countersign.decision/v1","time":"2026-11-23T05:10:02.000Z","id":"new","outcome":"postponed","reason":"later","weather":{"rain":[1,2]},"caller":{"proof":null,"mood":"good"}}"#;
    let next =
        r#"{"schema":"countersign.decision/v2","time":"2026-11-23T05:10:03.000Z","key":"x"}"#;
    let event =
        r#"{"schema":"countersign.event/v1","time":"2026-11-23T05:10:04.000Z","event":"exploded"}"#;
    let (ids, counts) = read(&[old, new, next, event].join("\n"));
    assert_eq!(ids, ["old", "new"]);
    assert_eq!((counts.records, counts.unknown), (3, 1));
    assert!(counts.notes()[0].contains("countersign.decision/v2"));
}

#[test]
fn a_clock_that_was_set_back_is_told_once() {
    let minutes = |minute: u32| record(1, "x").replace("05:10", &format!("05:{minute:02}"));
    let text = [minutes(30), minutes(20), minutes(21), minutes(31)].join("\n");
    let (ids, counts) = read(&text);
    assert_eq!(ids.len(), 4);
    assert_eq!((counts.backwards, counts.backwards_s), (1, 600));
    // A stream of half an hour is no such thing: it began earlier than the record before it.
    let long = minutes(1).replace(
        "\"reason\"",
        "\"timing_us\":{\"total\":1800000000},\"reason\"",
    );
    let (_, counts) = read(&[minutes(30), long].join("\n"));
    assert_eq!(counts.backwards, 0);
}

#[test]
fn a_damaged_archive_gives_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gz");
    let text: String = (0..2000)
        .map(|number| record(1, &format!("{}", number * 7919)) + "\n")
        .collect();
    let bytes = gzip(&path, &text);
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let mut reader = Reader::open(&[path]).unwrap();
    let read = ids(&mut reader).len();
    assert!(read > 100, "{read}");
    assert_eq!(reader.counts().interrupted, 1);
}

#[test]
fn what_cannot_be_opened_is_an_error_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let error = Reader::open(&[folder.path().to_owned()]).unwrap_err();
    assert!(error.to_string().contains("has no files"), "{error}");
    let error = Reader::open(&[folder.path().join("missing")]).unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
    let path = folder.path().join("a.zst");
    fs::write(&path, [0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0]).unwrap();
    let error = Reader::open(&[path]).unwrap_err();
    assert!(error.to_string().contains("zstdcat"), "{error}");
}
