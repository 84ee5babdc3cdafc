//! What one connection or tunnel has taken, and what in it is in use.
//!
//! A purse takes from its account in steps, so that small requests do not touch what all share: its
//! own lock is contended only by the streams of its one connection.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::{
    Account, Budget, Short,
    account::{Claim, Class},
    narrow,
};

/// What a purse takes at a time, in bytes.
const STEP: usize = 16 * 1024;

/// What every purse's fixed part has for small bodies, in bytes.
const ALLOWANCE: usize = 8 * 1024;

/// From here on, what is charged may be given up for another workload, if its holder lets it.
const LARGE: usize = 64 * 1024;

/// The memory of one connection or tunnel.
#[derive(Debug)]
pub struct Purse {
    budget: Budget,
    identified: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    account: Arc<Account>,
    /// What is taken whatever is in use.
    fixed: usize,
    in_use: usize,
}

impl State {
    fn taken(&self) -> usize {
        let beyond = self.in_use.saturating_sub(ALLOWANCE);
        self.fixed + beyond.next_multiple_of(STEP)
    }
}

impl Purse {
    pub(super) fn open(
        budget: &Budget,
        account: &Arc<Account>,
        fixed: usize,
    ) -> Result<Arc<Self>, Short> {
        budget.take(account, fixed)?;
        Ok(Arc::new(Self {
            budget: budget.clone(),
            identified: AtomicBool::new(account.class == Class::Workload),
            state: Mutex::new(State {
                account: Arc::clone(account),
                fixed,
                in_use: 0,
            }),
        }))
    }

    /// One of a budget of its own, which nobody else takes from.
    ///
    /// # Panics
    /// Never: such a budget has room.
    pub fn unshared() -> Arc<Self> {
        let metrics = crate::metrics::Metrics::new();
        let budget = Budget::new(u64::MAX / 4, &metrics);
        budget.admit().expect("there is room")
    }

    /// Whether a proven request has come.
    pub fn is_identified(&self) -> bool {
        self.identified.load(Ordering::Relaxed)
    }

    /// From now on it is this account's.
    ///
    /// # Errors
    /// When that has no room; it then stays with whom it was.
    pub fn belongs_to(&self, account: &Arc<Account>) -> Result<(), Short> {
        let mut state = self.state();
        if Arc::ptr_eq(&state.account, account) {
            return Ok(());
        }
        let taken = state.taken();
        self.budget.take(account, taken)?;
        self.budget.give(&state.account, taken);
        state.account = Arc::clone(account);
        self.identified
            .store(account.class == Class::Workload, Ordering::Relaxed);
        Ok(())
    }

    /// Room of the same account for something that may outlive this.
    ///
    /// # Errors
    /// When there is none.
    pub fn beside(&self, bytes: u64) -> Result<Arc<Self>, Short> {
        let account = Arc::clone(&self.state().account);
        Self::open(&self.budget, &account, narrow(bytes))
    }

    /// Something that will grow.
    pub fn charge(self: &Arc<Self>) -> Charge {
        Charge {
            purse: Arc::clone(self),
            bytes: 0,
            claim: None,
        }
    }

    /// What its charges hold, in bytes.
    pub fn in_use(&self) -> usize {
        self.state().in_use
    }

    fn grow(&self, bytes: usize) -> Result<(), Short> {
        let mut state = self.state();
        let before = state.taken();
        state.in_use = state.in_use.saturating_add(bytes);
        let more = state.taken() - before;
        if more == 0 {
            return Ok(());
        }
        let taken = self.budget.take(&state.account, more);
        if taken.is_err() {
            state.in_use -= bytes;
        }
        taken
    }

    fn shrink(&self, bytes: usize) {
        let mut state = self.state();
        let before = state.taken();
        state.in_use -= bytes;
        let less = before - state.taken();
        if less > 0 {
            self.budget.give(&state.account, less);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Purse {
    fn drop(&mut self) {
        let state = self.state();
        self.budget.give(&state.account, state.taken());
    }
}

/// Bytes that are held; given back when dropped.
#[derive(Debug)]
#[must_use = "the bytes are given back when it is dropped"]
pub struct Charge {
    purse: Arc<Purse>,
    bytes: usize,
    claim: Option<Arc<Claim>>,
}

impl Charge {
    /// What it stands for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Stands for so many bytes from now on. To be called before its holder grows.
    ///
    /// # Errors
    /// When there are not as many; it then stands for what it did.
    pub fn set(&mut self, bytes: usize) -> Result<(), Short> {
        if bytes > self.bytes {
            self.purse.grow(bytes - self.bytes)?;
        } else if bytes < self.bytes {
            self.purse.shrink(self.bytes - bytes);
        }
        self.bytes = bytes;
        if let Some(claim) = &self.claim {
            claim.bytes.store(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// As [`Self::set`]; if it has become large, it may be given up for another workload.
    ///
    /// # Errors
    /// As for [`Self::set`], and when it is given up.
    pub fn set_revocable(&mut self, bytes: usize) -> Result<(), Short> {
        if self.is_revoked() {
            return Err(self.given_up());
        }
        if bytes >= LARGE && self.claim.is_none() {
            self.claim = Some(self.purse.state().account.claim());
        }
        self.set(bytes)
    }

    /// Completes when it is given up for another workload.
    pub async fn revoked(&self) {
        match &self.claim {
            Some(claim) => claim.revoked.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Why it was given up.
    pub fn given_up(&self) -> Short {
        Short::Share {
            held: self.purse.state().account.held(),
            total: self.purse.budget.total(),
        }
    }

    fn is_revoked(&self) -> bool {
        let claim = self.claim.as_ref();
        claim.is_some_and(|claim| claim.revoked.is_cancelled())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.purse.shrink(self.bytes);
        }
    }
}
