//! Reaps orphans. Process 1 of a container inherits every process whose parent has ended: those that
//! helpers leave behind, and those started with `kubectl exec`. When one ends, it stays in the process
//! table until process 1 waits for it, and that table is bounded.
//!
//! Our own children are left to the code that waits for them.

use std::{
    collections::HashSet,
    fs, io,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use tokio::{
    process::{Child, Command},
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

/// The process that inherits orphans.
const FIRST: Pid = Pid::INIT;

static CHILDREN: LazyLock<Children> = LazyLock::new(Children::default);

/// The children that our code waits for. The lock is held while one is started, so that none ends before
/// it is registered.
#[derive(Debug, Default)]
struct Children {
    known: Mutex<HashSet<Pid>>,
    /// Notified when code stops waiting for one.
    fewer: Notify,
}

/// A child that our code waits for, until this is dropped.
#[derive(Debug)]
pub struct Awaited(Option<Pid>);

impl Drop for Awaited {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            CHILDREN.lock().remove(&pid);
            CHILDREN.fewer.notify_one();
        }
    }
}

impl Children {
    fn lock(&self) -> MutexGuard<'_, HashSet<Pid>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a child, which is not reaped while the returned guard is held.
pub fn spawn(command: &mut Command) -> io::Result<(Child, Awaited)> {
    let mut known = CHILDREN.lock();
    let child = command.spawn()?;
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    known.extend(pid);
    Ok((child, Awaited(pid)))
}

/// Reaps orphans from now on, if this process inherits them. To be called within the runtime.
pub fn start() {
    if getpid() != FIRST {
        return;
    }
    match signal(SignalKind::child()) {
        Ok(ended) => drop(tokio::spawn(run(ended))),
        Err(error) => tracing::warn!(%error, "orphaned processes are not reaped"),
    }
}

async fn run(mut ended: Signal) {
    loop {
        // Reads a few files in /proc for each process of the container.
        let reaped = tokio::task::spawn_blocking(reap).await;
        match reaped {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(count)) => tracing::debug!(count, "orphaned processes were reaped"),
            Ok(Err(error)) => tracing::debug!(%error, "/proc cannot be read"),
        }
        tokio::select! {
            _ = ended.recv() => {}
            () = CHILDREN.fewer.notified() => {}
        }
    }
}

/// Reaps every ended child that our code does not wait for; returns their number.
fn reap() -> io::Result<usize> {
    let mut count = 0;
    for pid in ended_children()? {
        count += usize::from(reap_unless_awaited(pid)?);
    }
    Ok(count)
}

/// Reaps an ended child; returns whether our code did not wait for it.
fn reap_unless_awaited(pid: Pid) -> io::Result<bool> {
    let known = CHILDREN.lock();
    Ok(!known.contains(&pid) && waitpid(Some(pid), WaitOptions::NOHANG)?.is_some())
}

/// Our children that have ended.
fn ended_children() -> io::Result<Vec<Pid>> {
    let us = getpid().as_raw_nonzero().get();
    let mut ended = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        // A child that was reaped in between has no such file.
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        if stat.is_ok_and(|stat| is_ended_child(&stat, us)) {
            ended.push(pid);
        }
    }
    Ok(ended)
}

/// By `proc_pid_stat(5)`: `PID (NAME) STATE PARENT ...`, where the name can contain anything.
fn is_ended_child(stat: &str, parent: i32) -> bool {
    let after_name = stat.rsplit_once(") ").map(|(_, rest)| rest);
    let mut fields = after_name.unwrap_or_default().split(' ');
    let state = fields.next();
    state == Some("Z") && fields.next().and_then(|field| field.parse().ok()) == Some(parent)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::ended("7 (sh) Z 1 7 7 0 -1 4194316", true)]
    #[case::odd_name("7 (a) R 1 (b c) Z 1 7 7", true)]
    #[case::alive("7 (sh) S 1 7 7 0", false)]
    #[case::name_that_looks_ended("7 (x) Z 1 (y) S 1 7", false)]
    #[case::anothers("7 (sh) Z 12 7 7 0", false)]
    #[case::cut("7 (sh) Z", false)]
    #[case::nothing("", false)]
    fn children_that_have_ended_are_known_by_their_state(#[case] stat: &str, #[case] ended: bool) {
        assert_eq!(is_ended_child(stat, 1), ended);
    }

    #[tokio::test]
    async fn a_child_that_is_waited_for_is_left_alone() {
        let (mut child, awaited) = spawn(&mut Command::new("true")).unwrap();
        let pid = awaited.0.unwrap();
        // Ended and not reaped yet.
        while !ended_children().unwrap().contains(&pid) {
            tokio::task::yield_now().await;
        }
        assert!(!reap_unless_awaited(pid).unwrap());
        assert!(child.wait().await.unwrap().success());
        drop(awaited);
        assert!(!CHILDREN.lock().contains(&pid));
    }
}
