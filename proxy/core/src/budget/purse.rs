//! The memory that one connection or tunnel has reserved, and how much of it is in use.
//!
//! A purse reserves from its account in steps, so that small requests do not touch the shared counters.
//! Its own lock is contended only by the streams of its connection.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::{
    Account, Budget, Short,
    account::{Class, RevocableClaim},
    narrow,
};

/// How much a purse reserves at a time, in bytes.
const STEP: usize = 16 * 1024;

/// The allowance for small bodies in the fixed part of every purse, in bytes.
const ALLOWANCE: usize = 8 * 1024;

/// Larger charges can be revoked for another workload, if their holder supports it.
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
    /// Reserved regardless of use.
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

    /// A purse of an unlimited budget of its own.
    ///
    /// # Panics
    /// Never: such a budget has room.
    pub fn unshared() -> Arc<Self> {
        let metrics = crate::metrics::Metrics::new();
        let budget = Budget::new(u64::MAX / 4, &metrics);
        budget.admit().expect("there is room")
    }

    /// Whether there was a proven request.
    pub fn is_identified(&self) -> bool {
        self.identified.load(Ordering::Relaxed)
    }

    /// Moves the purse to this account.
    ///
    /// # Errors
    /// When the account has no room; the purse then stays where it was.
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

    /// Reserves from the same account for something that may outlive this purse.
    ///
    /// # Errors
    /// When there is not enough.
    pub fn with_same_account(&self, bytes: u64) -> Result<Arc<Self>, Short> {
        let account = Arc::clone(&self.state().account);
        Self::open(&self.budget, &account, narrow(bytes))
    }

    /// A charge of 0 bytes.
    pub fn charge(self: &Arc<Self>) -> Charge {
        Charge {
            purse: Arc::clone(self),
            bytes: 0,
            claim: None,
        }
    }

    /// The sum of its charges, in bytes.
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

/// Reserved bytes; released on drop.
#[derive(Debug)]
#[must_use = "the bytes are released when it is dropped"]
pub struct Charge {
    purse: Arc<Purse>,
    bytes: usize,
    claim: Option<Arc<RevocableClaim>>,
}

impl Charge {
    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes its size. To be called before its holder grows.
    ///
    /// # Errors
    /// When there is not enough; its size is then unchanged.
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

    /// As [`Self::set`]; a large charge can then be revoked for another workload.
    ///
    /// # Errors
    /// As for [`Self::set`], and when it was revoked.
    pub fn set_revocable(&mut self, bytes: usize) -> Result<(), Short> {
        if self.is_revoked() {
            return Err(self.given_up());
        }
        if bytes >= LARGE && self.claim.is_none() {
            self.claim = Some(self.purse.state().account.claim());
        }
        self.set(bytes)
    }

    /// Completes when it is revoked for another workload.
    pub async fn revoked(&self) {
        match &self.claim {
            Some(claim) => claim.revoked.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Why it was revoked.
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
