//! Accounts: who holds how much memory.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

/// The kind of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// All unidentified connections.
    Unidentified,
    /// One service account, or SPIFFE ID.
    Workload,
}

impl Class {
    /// The name in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unidentified => "unidentified",
            Self::Workload => "workload",
        }
    }
}

/// The memory of one workload, or of all unidentified connections.
#[derive(Debug)]
pub struct Account {
    pub(super) class: Class,
    pub(super) held: AtomicUsize,
    /// Memory that can be revoked for another workload. Used only when memory is short.
    claims: Mutex<Vec<Weak<RevocableClaim>>>,
}

/// A large item that can be revoked for another workload.
#[derive(Debug, Default)]
pub(super) struct RevocableClaim {
    pub(super) bytes: AtomicUsize,
    pub(super) revoked: CancellationToken,
}

impl Account {
    pub(super) fn new(class: Class) -> Self {
        Self {
            class,
            held: AtomicUsize::new(0),
            claims: Mutex::default(),
        }
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Registers a large item.
    pub(super) fn claim(&self) -> Arc<RevocableClaim> {
        let claim = Arc::new(RevocableClaim::default());
        let mut claims = lock(&self.claims);
        if claims.len() == claims.capacity() {
            claims.retain(|claim| claim.strong_count() > 0);
        }
        claims.push(Arc::downgrade(&claim));
        claim
    }

    /// Revokes the largest claims until this many bytes will be released; returns how many will be.
    fn revoke(&self, bytes: usize) -> usize {
        let mut claims: Vec<_> = lock(&self.claims)
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|claim| !claim.revoked.is_cancelled())
            .map(|claim| (claim.bytes.load(Ordering::Relaxed), claim))
            .collect();
        claims.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let mut freed = 0;
        for (size, claim) in claims {
            if freed >= bytes || size == 0 {
                break;
            }
            claim.revoked.cancel();
            freed += size;
        }
        freed
    }
}

/// The accounts of workloads that hold memory.
#[derive(Debug, Default)]
pub(super) struct Accounts(Mutex<HashMap<Key, Weak<Account>>>);

/// Issuer and subject.
type Key = (Box<str>, Box<str>);

impl Accounts {
    /// The account of a subject; creates it if there is none.
    pub(super) fn of(&self, issuer: &str, subject: &str) -> Arc<Account> {
        let mut accounts = lock(&self.0);
        if accounts.len() == accounts.capacity() {
            accounts.retain(|_, account| account.strong_count() > 0);
        }
        let slot = accounts.entry((issuer.into(), subject.into())).or_default();
        if let Some(account) = slot.upgrade() {
            return account;
        }
        let account = Arc::new(Account::new(Class::Workload));
        *slot = Arc::downgrade(&account);
        account
    }

    /// How many accounts hold memory.
    pub(super) fn count(&self) -> usize {
        self.living().filter(|account| account.held() > 0).count()
    }

    /// Revokes this many bytes from the account that holds most, if that is more than `fair`; returns
    /// how many will be released.
    pub(super) fn revoke(&self, other: &Account, fair: usize, bytes: usize) -> usize {
        let biggest = self
            .living()
            .filter(|account| !std::ptr::eq(&raw const **account, other) && account.held() > fair)
            .max_by_key(|account| account.held());
        biggest.map_or(0, |account| account.revoke(bytes))
    }

    fn living(&self) -> impl Iterator<Item = Arc<Account>> {
        let accounts = lock(&self.0);
        let living: Vec<_> = accounts.values().filter_map(Weak::upgrade).collect();
        living.into_iter()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
