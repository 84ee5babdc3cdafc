//! Waiting for what a steered client says first: bounded in bytes and in time.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use super::{
    meter::Overrun,
    sniff::{self, Malformed, Sniffer, Spoken},
};

/// What one read makes room for; a post-quantum `ClientHello` fits.
const ROOM: usize = 2048;

/// What a client said first.
#[derive(Debug)]
pub struct FirstBytes {
    /// Every byte that was read.
    pub bytes: Vec<u8>,
    /// What they tell.
    pub told: Told,
}

/// What a client's first bytes tell.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// Which protocol it speaks.
    Spoken(Spoken),
    /// It begins as TLS and is none, or stopped within its `ClientHello`.
    Malformed(Malformed),
    /// Nothing, in the time it had: the protocol may be one in which the server speaks first.
    Nothing,
    /// It left without a word.
    Left,
    /// There was no memory for more.
    Overrun(Overrun),
}

/// Reads until the bytes tell, for `limit` at most.
pub async fn read(stream: &mut (impl AsyncRead + Unpin), limit: Duration) -> FirstBytes {
    let mut bytes = Vec::new();
    let told = match timeout(limit, read_on(stream, &mut bytes)).await {
        Ok(told) => told,
        Err(_) => match Sniffer::end(&bytes) {
            Ok(_) => Told::Nothing,
            Err(malformed) => Told::Malformed(malformed),
        },
    };
    FirstBytes { bytes, told }
}

async fn read_on(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Told {
    let mut sniffer = Sniffer::default();
    loop {
        match sniffer.look(bytes) {
            Ok(None) => {}
            Ok(Some(spoken)) => return Told::Spoken(spoken),
            Err(malformed) => return Told::Malformed(malformed),
        }
        // Not doubled: a long hello is the exception.
        bytes.reserve_exact(ROOM);
        let left = u64::try_from(sniff::MOST - bytes.len()).unwrap_or(0);
        let ended = match (&mut *stream).take(left).read_buf(bytes).await {
            Ok(0) => true,
            Ok(_) => false,
            // Reset: it left, whatever it began to say.
            Err(error) => return Overrun::of(&error).map_or(Told::Left, Told::Overrun),
        };
        if ended && bytes.is_empty() {
            return Told::Left;
        }
        if ended {
            return match Sniffer::end(bytes) {
                Ok(spoken) => Told::Spoken(spoken),
                Err(malformed) => Told::Malformed(malformed),
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
    #[case::silent(b"", Told::Nothing)]
    #[case::half_a_line(b"GET / HT", Told::Nothing)]
    #[case::half_a_hello(b"\x16\x03\x01\x02\0\x01", Told::Malformed(INCOMPLETE))]
    #[case::a_line(b"GET / HTTP/1.1\r\n", Told::Spoken(Spoken::Http1))]
    #[tokio::test(start_paused = true)]
    async fn a_client_that_stalls_is_not_waited_for_any_longer(
        #[case] says: &[u8],
        #[case] told: Told,
    ) {
        let (mut near, mut far) = tokio::io::duplex(64);
        far.write_all(says).await.unwrap();
        let started = tokio::time::Instant::now();
        let first = read(&mut near, LIMIT).await;
        assert_eq!(first.told, told);
        assert_eq!(first.bytes, says);
        assert!(started.elapsed() <= LIMIT + Duration::from_millis(1));
    }

    #[rstest]
    #[case::silent(b"", Told::Left)]
    #[case::half_a_line(b"GET / HT", Told::Spoken(Spoken::Unknown))]
    #[case::half_a_hello(b"\x16\x03\x01\x02\0\x01", Told::Malformed(INCOMPLETE))]
    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_is_noticed_at_once(#[case] says: &[u8], #[case] told: Told) {
        let (mut near, mut far) = tokio::io::duplex(64);
        far.write_all(says).await.unwrap();
        drop(far);
        let started = tokio::time::Instant::now();
        assert_eq!(read(&mut near, LIMIT).await.told, told);
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
        assert_eq!(first.told, Told::Spoken(Spoken::Unknown));
        assert_eq!(first.bytes.len(), sniff::MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hello_of_empty_promises_is_bounded() {
        // A record of one byte each, of a hello that never gets to the end it announced.
        let mut endless = b"\x16\x03\x01\0\x04\x01\0\xff\xff".to_vec();
        for _ in 0..20_000 {
            endless.extend_from_slice(b"\x16\x03\x01\0\x01\0");
        }
        let mut stream = endless.as_slice();
        let first = read(&mut stream, LIMIT).await;
        assert_eq!(first.told, Told::Malformed(INCOMPLETE));
        assert_eq!(first.bytes.len(), sniff::MOST);
    }
}
