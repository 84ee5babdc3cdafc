//! Files of others, on disks that may not answer.
//!
//! A thread that serves requests never reads a file. Whoever needs one while requests are served
//! asks here: the work is done on a thread of its own, nobody waits for it beyond a few seconds,
//! and a file that hangs holds two threads at most, however many ask for it.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicIsize, AtomicU8, Ordering},
    },
    time::Duration,
};

use rustix::fs::OFlags;
use tokio::{sync::Semaphore, time::timeout};

/// The longest that anyone waits for a file.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Threads at work on one file.
const AT_WORK: usize = 2;

/// The largest file that is read where nothing smaller is said: certificates, keys, bundles.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Opens a regular file for reading. Where something else lies, such as a named pipe, it does not
/// wait for whoever is at the other end.
///
/// # Errors
/// When the system does not open it, or it is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ))
    }
}

/// The content of a regular file of at most 4 MiB, read by this very thread: at start, or where no
/// request waits.
///
/// # Errors
/// As for [`open`], and when it is larger.
pub fn read_now(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let read = open(path)?.take(LARGEST + 1).read_to_end(&mut content)?;
    if read as u64 > LARGEST {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is larger than 4 MiB",
        ));
    }
    Ok(content)
}

/// The same beside the requests.
///
/// # Errors
/// As for [`read_now`], and when the file does not answer in time.
pub async fn read(path: &Path) -> io::Result<Vec<u8>> {
    beside(path, read_now).await
}

/// Does what may wait for the disk that `path` is on, beside the requests.
///
/// # Errors
/// Those of the work; and [`io::ErrorKind::TimedOut`] when it takes too long, at once where
/// earlier work on the same path has not come back yet.
pub async fn beside<T: Send + 'static, E: From<io::Error> + Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let desk = Desk::of(path);
    if desk.given_up.load(Ordering::Relaxed) > 0 {
        return Err(hangs().into());
    }
    let path = path.to_owned();
    let working = async {
        let permit = Arc::clone(&desk.permits).acquire_owned().await;
        let job = Arc::new(Job {
            desk: Arc::clone(&desk),
            state: AtomicU8::new(WAITED_FOR),
        });
        let _waiting = Waiting(Arc::clone(&job));
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&path);
            job.end();
            drop(permit);
            done
        });
        done.await
    };
    match timeout(PATIENCE, working).await {
        Ok(Ok(done)) => done,
        // The runtime is shutting down.
        Ok(Err(_)) => Err(io::Error::from(io::ErrorKind::Interrupted).into()),
        Err(_) => Err(hangs().into()),
    }
}

fn hangs() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer")
}

/// All that is being done on one path.
#[derive(Debug)]
struct Desk {
    permits: Arc<Semaphore>,
    /// Work that nobody waits for any more and that has not come back. For a moment below 0 when it
    /// comes back just then.
    given_up: AtomicIsize,
}

/// The desks that are in use, or that something hangs on: as many as there are paths in the
/// configuration at the most.
static DESKS: LazyLock<Mutex<HashMap<PathBuf, Arc<Desk>>>> = LazyLock::new(Mutex::default);

impl Desk {
    fn of(path: &Path) -> Arc<Self> {
        let mut desks = desks();
        if let Some(desk) = desks.get(path) {
            return Arc::clone(desk);
        }
        // Nobody else can be about to use one that only the map holds.
        desks.retain(|_, desk| Arc::strong_count(desk) > 1);
        let desk = Arc::new(Self {
            permits: Arc::new(Semaphore::new(AT_WORK)),
            given_up: AtomicIsize::new(0),
        });
        desks.insert(path.to_owned(), Arc::clone(&desk));
        desk
    }
}

fn desks() -> MutexGuard<'static, HashMap<PathBuf, Arc<Desk>>> {
    DESKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Work on a thread of its own. It holds its desk until it comes back.
#[derive(Debug)]
struct Job {
    desk: Arc<Desk>,
    state: AtomicU8,
}

const WAITED_FOR: u8 = 0;
const GIVEN_UP: u8 = 1;
const ENDED: u8 = 2;

impl Job {
    fn end(&self) {
        if self.state.swap(ENDED, Ordering::AcqRel) == GIVEN_UP {
            self.desk.given_up.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Whoever waits for a job.
#[derive(Debug)]
struct Waiting(Arc<Job>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let Job { desk, state } = &*self.0;
        let given_up =
            state.compare_exchange(WAITED_FOR, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire);
        // What has ended is never counted: whoever comes in that moment would be told of a hang.
        if given_up.is_ok() {
            desk.given_up.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn pipe(directory: &Path) -> PathBuf {
        let path = directory.join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        path
    }

    #[tokio::test]
    async fn a_named_pipe_is_no_file_and_nobody_waits_for_its_other_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = pipe(directory.path());
        let kind = read(&path).await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::InvalidInput);
        let kind = read_now(directory.path()).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn a_file_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "content").unwrap();
        assert_eq!(read(&path).await.unwrap(), b"content");
        File::create(&path).unwrap().set_len(LARGEST).unwrap();
        assert_eq!(read(&path).await.unwrap().len() as u64, LARGEST);
        File::create(&path).unwrap().set_len(LARGEST + 1).unwrap();
        let kind = read(&path).await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::FileTooLarge);
    }

    /// A disk that does not answer, until it is let go: as a file of it, any path will do.
    fn hang(
        path: &Path,
    ) -> (
        mpsc::Sender<()>,
        Vec<tokio::task::JoinHandle<io::ErrorKind>>,
    ) {
        let (let_go, hanging) = mpsc::channel::<()>();
        let hanging = Arc::new(Mutex::new(hanging));
        let asks = (0..10).map(|_| {
            let (path, hanging) = (path.to_owned(), Arc::clone(&hanging));
            tokio::spawn(async move {
                let work = move |_: &Path| {
                    // An error is the test letting go.
                    let _ = hanging.lock().unwrap().recv();
                    Ok::<_, io::Error>(())
                };
                beside(&path, work).await.unwrap_err().kind()
            })
        });
        (let_go, asks.collect())
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_costs_two_threads_and_is_remembered() {
        let path = Path::new("/a disk that does not answer");
        let (let_go, asks) = hang(path);
        let desk = Desk::of(path);
        while desk.permits.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        // Time does not pass by itself while a thread is at work.
        tokio::time::advance(PATIENCE).await;
        for ask in asks {
            assert_eq!(ask.await.unwrap(), io::ErrorKind::TimedOut);
        }
        assert_eq!(desk.given_up.load(Ordering::Relaxed), AT_WORK.cast_signed());
        // Whoever comes now does not wait, and no thread is taken.
        let began = tokio::time::Instant::now();
        let kind = read(path).await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), Duration::ZERO);
        // Another file is not concerned.
        let kind = read(Path::new("/a disk that does"))
            .await
            .unwrap_err()
            .kind();
        assert_eq!(kind, io::ErrorKind::NotFound);
        drop(let_go);
        while desk.given_up.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
        let kind = read(path).await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn whoever_leaves_early_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "content").unwrap();
        for _ in 0..100 {
            let asked = read(&path);
            tokio::select! {
                biased;
                _ = asked => {}
                () = tokio::task::yield_now() => {}
            }
        }
        let desk = Desk::of(&path);
        while desk.given_up.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(read(&path).await.unwrap(), b"content");
    }
}
