//! Reads the first bytes of a redirected client: bounded in size and time.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use super::{
    meter::Overrun,
    sniff::{self, DetectedProtocol, Malformed, Sniffer},
};

/// The buffer for one read; a post-quantum `ClientHello` fits.
const ROOM: usize = 2048;

/// The first bytes of a client.
#[derive(Debug)]
pub struct FirstBytes {
    /// Every byte that was read.
    pub bytes: Vec<u8>,
    /// What they show.
    pub detection: Detection,
}

/// What a client's first bytes show.
#[derive(Debug, PartialEq, Eq)]
pub enum Detection {
    /// The protocol.
    Protocol(DetectedProtocol),
    /// It begins like TLS but is not, or ends within its `ClientHello`.
    Malformed(Malformed),
    /// Nothing came in time: in some protocols the server speaks first.
    Nothing,
    /// The client left without sending anything.
    Left,
    /// There was no memory for more.
    Overrun(Overrun),
}

/// Reads until the protocol is known, at most for `limit`.
pub async fn read(stream: &mut (impl AsyncRead + Unpin), limit: Duration) -> FirstBytes {
    let mut bytes = Vec::new();
    let detection = match timeout(limit, read_on(stream, &mut bytes)).await {
        Ok(detection) => detection,
        Err(_) => match Sniffer::end(&bytes) {
            Ok(_) => Detection::Nothing,
            Err(malformed) => Detection::Malformed(malformed),
        },
    };
    FirstBytes { bytes, detection }
}

async fn read_on(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Detection {
    let mut sniffer = Sniffer::default();
    loop {
        match sniffer.look(bytes) {
            Ok(None) => {}
            Ok(Some(spoken)) => return Detection::Protocol(spoken),
            Err(malformed) => return Detection::Malformed(malformed),
        }
        // Not doubled: a long `ClientHello` is rare.
        bytes.reserve_exact(ROOM);
        let left = u64::try_from(sniff::MOST - bytes.len()).unwrap_or(0);
        let ended = match (&mut *stream).take(left).read_buf(bytes).await {
            Ok(0) => true,
            Ok(_) => false,
            // Reset: the client left, whatever it had begun to send.
            Err(error) => return Overrun::of(&error).map_or(Detection::Left, Detection::Overrun),
        };
        if ended && bytes.is_empty() {
            return Detection::Left;
        }
        if ended {
            return match Sniffer::end(bytes) {
                Ok(spoken) => Detection::Protocol(spoken),
                Err(malformed) => Detection::Malformed(malformed),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::io::AsyncWriteExt;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    const INCOMPLETE: Malformed = Malformed("the ClientHello is not complete");

    #[rstest]
    #[case::silent(b"", Detection::Nothing)]
    #[case::half_a_line(b"GET / HT", Detection::Nothing)]
    #[case::half_a_hello(b"\x16\x03\x01\x02\0\x01", Detection::Malformed(INCOMPLETE))]
    #[case::a_line(b"GET / HTTP/1.1\r\n", Detection::Protocol(DetectedProtocol::Http1))]
    #[tokio::test(start_paused = true)]
    async fn a_client_that_stalls_is_not_waited_for_any_longer(
        #[case] says: &[u8],
        #[case] detection: Detection,
    ) {
        let (mut near, mut far) = tokio::io::duplex(64);
        far.write_all(says).await.unwrap();
        let started = tokio::time::Instant::now();
        let first = read(&mut near, LIMIT).await;
        assert_eq!(first.detection, detection);
        assert_eq!(first.bytes, says);
        assert!(started.elapsed() <= LIMIT + Duration::from_millis(1));
    }

    #[rstest]
    #[case::silent(b"", Detection::Left)]
    #[case::half_a_line(b"GET / HT", Detection::Protocol(DetectedProtocol::Unknown))]
    #[case::half_a_hello(b"\x16\x03\x01\x02\0\x01", Detection::Malformed(INCOMPLETE))]
    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_is_noticed_at_once(
        #[case] says: &[u8],
        #[case] detection: Detection,
    ) {
        let (mut near, mut far) = tokio::io::duplex(64);
        far.write_all(says).await.unwrap();
        drop(far);
        let started = tokio::time::Instant::now();
        assert_eq!(read(&mut near, LIMIT).await.detection, detection);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_without_an_end_is_bounded() {
        let endless = std::iter::once(b"GET /".to_vec())
            .chain(std::iter::repeat_n(vec![b'a'; 1000], 100))
            .flatten()
            .collect::<Vec<_>>();
        let mut stream = endless.as_slice();
        let first = read(&mut stream, LIMIT).await;
        assert_eq!(
            first.detection,
            Detection::Protocol(DetectedProtocol::Unknown)
        );
        assert_eq!(first.bytes.len(), sniff::MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hello_of_empty_promises_is_bounded() {
        // Records of one byte each, of a `ClientHello` that never reaches its announced length.
        let mut endless = b"\x16\x03\x01\0\x04\x01\0\xff\xff".to_vec();
        for _ in 0..20_000 {
            endless.extend_from_slice(b"\x16\x03\x01\0\x01\0");
        }
        let mut stream = endless.as_slice();
        let first = read(&mut stream, LIMIT).await;
        assert_eq!(first.detection, Detection::Malformed(INCOMPLETE));
        assert_eq!(first.bytes.len(), sniff::MOST);
    }
}
