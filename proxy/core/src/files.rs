//! Files on disks that may not respond.
//!
//! A thread that serves requests never reads a file. Code that needs one uses this module: the work is
//! done on another thread, no one waits longer than a few seconds, and a file that hangs blocks at most
//! two threads, however many ask for it.

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

use countersign_types::shown;
use rustix::fs::OFlags;
use tokio::{sync::Semaphore, time::timeout};

/// The longest wait for a file.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The most threads that work on one file.
const MAX_THREADS: usize = 2;

/// The largest file that is read without an explicit limit: certificates, keys, bundles.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Opens a regular file for reading. If the path is something else, such as a named pipe, it
/// does not wait for the other end.
///
/// # Errors
/// When the system does not open it, or it is not a regular file.
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

/// What is wrong with a file, in words: ours, or the system's without its number.
pub fn reason(error: &io::Error) -> String {
    shown::io_error(error)
}

/// The content of a regular file of at most 4 MiB, read on this thread: at start, or where no
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

/// The same on another thread.
///
/// # Errors
/// As for [`read_now`], and when the file does not respond in time.
pub async fn read(path: &Path) -> io::Result<Vec<u8>> {
    run_blocking(path, read_now).await
}

/// Runs work that may block on the disk of `path`, on another thread.
///
/// # Errors
/// Those of the work; and [`io::ErrorKind::TimedOut`] when it takes too long, or at once if
/// earlier work on the same path still hangs.
pub async fn run_blocking<T: Send + 'static, E: From<io::Error> + Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let entry = FileWork::of(path);
    if entry.given_up.load(Ordering::Relaxed) > 0 {
        return Err(hangs().into());
    }
    let path = path.to_owned();
    let working = async {
        let permit = Arc::clone(&entry.permits).acquire_owned().await;
        let job = Arc::new(Job {
            entry: Arc::clone(&entry),
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
    match timeout(TIMEOUT, working).await {
        Ok(Ok(done)) => done,
        // The runtime is shutting down.
        Ok(Err(_)) => Err(io::Error::from(io::ErrorKind::Interrupted).into()),
        Err(_) => Err(hangs().into()),
    }
}

fn hangs() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the disk does not respond")
}

/// All work in progress on one path.
#[derive(Debug)]
struct FileWork {
    permits: Arc<Semaphore>,
    /// Work that has timed out and still hangs. Briefly below 0 if it completes at that moment.
    given_up: AtomicIsize,
}

/// One entry for each path in use, or on which something hangs: at most one for each path in the
/// configuration.
static ENTRIES: LazyLock<Mutex<HashMap<PathBuf, Arc<FileWork>>>> = LazyLock::new(Mutex::default);

impl FileWork {
    fn of(path: &Path) -> Arc<Self> {
        let mut entries = entries();
        if let Some(entry) = entries.get(path) {
            return Arc::clone(entry);
        }
        // If only the map holds a entry, no one else can be about to use it.
        entries.retain(|_, entry| Arc::strong_count(entry) > 1);
        let entry = Arc::new(Self {
            permits: Arc::new(Semaphore::new(MAX_THREADS)),
            given_up: AtomicIsize::new(0),
        });
        entries.insert(path.to_owned(), Arc::clone(&entry));
        entry
    }
}

fn entries() -> MutexGuard<'static, HashMap<PathBuf, Arc<FileWork>>> {
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Work on another thread. It holds its entry until it completes.
#[derive(Debug)]
struct Job {
    entry: Arc<FileWork>,
    state: AtomicU8,
}

const WAITED_FOR: u8 = 0;
const GIVEN_UP: u8 = 1;
const ENDED: u8 = 2;

impl Job {
    fn end(&self) {
        if self.state.swap(ENDED, Ordering::AcqRel) == GIVEN_UP {
            self.entry.given_up.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A wait for a job.
#[derive(Debug)]
struct Waiting(Arc<Job>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let Job { entry, state } = &*self.0;
        let given_up =
            state.compare_exchange(WAITED_FOR, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire);
        // Completed work is never counted, because a new request would then see a hang.
        if given_up.is_ok() {
            entry.given_up.fetch_add(1, Ordering::Relaxed);
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
        let error = read_now(directory.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(reason(&error), "it is not a regular file");
        let error = read_now(&directory.path().join("none")).unwrap_err();
        assert_eq!(reason(&error), "entity not found");
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

    /// A disk that does not respond until it is released; any path can stand for a file on it.
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
                    // An error means that the test released it.
                    let _ = hanging.lock().unwrap().recv();
                    Ok::<_, io::Error>(())
                };
                run_blocking(&path, work).await.unwrap_err().kind()
            })
        });
        (let_go, asks.collect())
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_costs_two_threads_and_is_remembered() {
        let path = Path::new("/a disk that does not answer");
        let (let_go, asks) = hang(path);
        let entry = FileWork::of(path);
        while entry.permits.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        // The paused clock does not advance by itself while a thread works.
        tokio::time::advance(TIMEOUT).await;
        for ask in asks {
            assert_eq!(ask.await.unwrap(), io::ErrorKind::TimedOut);
        }
        assert_eq!(
            entry.given_up.load(Ordering::Relaxed),
            MAX_THREADS.cast_signed()
        );
        // New requests do not wait and use no thread.
        let began = tokio::time::Instant::now();
        let kind = read(path).await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), Duration::ZERO);
        // Another file is not affected.
        let kind = read(Path::new("/a disk that does"))
            .await
            .unwrap_err()
            .kind();
        assert_eq!(kind, io::ErrorKind::NotFound);
        drop(let_go);
        while entry.given_up.load(Ordering::Relaxed) > 0 {
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
        let entry = FileWork::of(&path);
        while entry.given_up.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(read(&path).await.unwrap(), b"content");
    }
}
