//! A file that contains one secret text, such as a mounted token.
//!
//! The whole content is read every time, without looking at the modification time: it is small, and a
//! rewrite of equal length within one tick of the file system's clock would be missed.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use zeroize::Zeroizing;

use crate::{files, secret::Secret};

/// The largest secret file, in bytes.
pub const MAX_SECRET_FILE: usize = 64 * 1024;

/// Why a file gave no secret. Never contains its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretFileError {
    /// It does not exist.
    #[error("does not exist")]
    Missing,
    /// The operating system cannot read it.
    #[error("cannot be read ({0})")]
    Unreadable(io::ErrorKind),
    /// It contains only white space.
    #[error("is empty")]
    Empty,
    /// No secret is that large.
    #[error("is larger than 64 KiB")]
    TooLarge,
    /// It is not text of the required form.
    #[error("is not one line of visible ASCII")]
    NotText,
}

/// Reads the secret in `path`, without surrounding white space. Symbolic links are followed, so that
/// Kubernetes' swap of `..data` is seen.
pub async fn read(path: &Path) -> Result<Secret, SecretFileError> {
    read_as(path, token).await
}

/// Reads the text in `path`, of any form, without the final line end.
pub async fn read_text(path: &Path) -> Result<Secret, SecretFileError> {
    read_as(path, text).await
}

type Parse = fn(&[u8]) -> Result<Secret, SecretFileError>;

async fn read_as(path: &Path, parse: Parse) -> Result<Secret, SecretFileError> {
    files::run_blocking(path, move |path| read_blocking(path, parse)).await
}

fn read_blocking(path: &Path, parse: Parse) -> Result<Secret, SecretFileError> {
    // Allocated at once: a growing buffer leaves copies behind.
    let mut content = Zeroizing::new(vec![0; MAX_SECRET_FILE + 1]);
    let length = fill(&mut files::open(path)?, &mut content)?;
    if length == content.len() {
        return Err(SecretFileError::TooLarge);
    }
    parse(&content[..length])
}

/// One line of visible ASCII without spaces, without surrounding white space.
pub fn token(content: &[u8]) -> Result<Secret, SecretFileError> {
    let text = content.trim_ascii();
    if text.is_empty() {
        return Err(SecretFileError::Empty);
    }
    if !text.iter().all(u8::is_ascii_graphic) {
        return Err(SecretFileError::NotText);
    }
    let text = std::str::from_utf8(text).map_err(|_| SecretFileError::NotText)?;
    Ok(Secret::new(text.to_owned()))
}

/// A text of any form, without the final line end.
pub fn text(content: &[u8]) -> Result<Secret, SecretFileError> {
    let text = content.strip_suffix(b"\n").unwrap_or(content);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.trim_ascii().is_empty() {
        return Err(SecretFileError::Empty);
    }
    let text = std::str::from_utf8(text).map_err(|_| SecretFileError::NotText)?;
    Ok(Secret::new(text.to_owned()))
}

/// Reads until the end of the file or of the buffer; returns the number of bytes.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

impl From<io::Error> for SecretFileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            kind => Self::Unreadable(kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain(b"xoxb-1", Ok("xoxb-1"))]
    #[case::newline(b"xoxb-1\n", Ok("xoxb-1"))]
    #[case::spaces_and_crlf(b" \txoxb-1\r\n\n", Ok("xoxb-1"))]
    #[case::empty(b"", Err(SecretFileError::Empty))]
    #[case::blank(b" \r\n\t", Err(SecretFileError::Empty))]
    #[case::two_lines(b"one\ntwo", Err(SecretFileError::NotText))]
    #[case::inner_space(b"Bearer one", Err(SecretFileError::NotText))]
    #[case::control(b"one\x07two", Err(SecretFileError::NotText))]
    #[case::nul(b"one\0", Err(SecretFileError::NotText))]
    #[case::delete(b"one\x7f", Err(SecretFileError::NotText))]
    #[case::byte_order_mark("\u{feff}one".as_bytes(), Err(SecretFileError::NotText))]
    #[case::not_ascii("tök".as_bytes(), Err(SecretFileError::NotText))]
    #[case::not_utf8(b"\xff\xfe", Err(SecretFileError::NotText))]
    #[tokio::test]
    async fn takes_one_visible_word(
        #[case] content: &[u8],
        #[case] expected: Result<&str, SecretFileError>,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, content).unwrap();
        let read = read(&path).await;
        assert_eq!(
            read.as_ref().map(Secret::expose),
            expected.as_ref().copied()
        );
    }

    #[rstest]
    #[case::two_words(b" correct horse \n", Ok(" correct horse "))]
    #[case::crlf("pässword\r\n".as_bytes(), Ok("pässword"))]
    #[case::lines(b"one\ntwo\n\n", Ok("one\ntwo\n"))]
    #[case::blank(b" \n", Err(SecretFileError::Empty))]
    #[case::not_utf8(b"\xff\xfe", Err(SecretFileError::NotText))]
    #[tokio::test]
    async fn a_text_is_taken_as_it_is(
        #[case] content: &[u8],
        #[case] expected: Result<&str, SecretFileError>,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, content).unwrap();
        let read = read_text(&path).await;
        assert_eq!(
            read.as_ref().map(Secret::expose),
            expected.as_ref().copied()
        );
    }

    #[rstest]
    #[case::at_the_limit(64 * 1024, None)]
    #[case::one_beyond(64 * 1024 + 1, Some(SecretFileError::TooLarge))]
    #[tokio::test]
    async fn is_bounded(#[case] length: usize, #[case] expected: Option<SecretFileError>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, vec![b'a'; length]).unwrap();
        assert_eq!(read(&path).await.err(), expected);
    }

    #[tokio::test]
    async fn what_is_no_file_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let missing = read(&directory.path().join("none")).await;
        assert_eq!(missing.err(), Some(SecretFileError::Missing));
        let no_file = read(directory.path()).await;
        assert!(matches!(no_file, Err(SecretFileError::Unreadable(_))));
    }
}
