//! Locks that outlive a panic of their holder, and the wake-up of those who wait for records.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::Notify;

/// Locks; what a panicking holder left is still consistent here, because every section ends in one assignment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for reading, see [`lock`].
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for writing, see [`lock`].
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Those who wait for something new in one place while they wait in others too (a fetch of many partitions).
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: Mutex<Vec<Arc<Notify>>>,
}

impl Waiters {
    /// From now on `waiter` is notified by [`Waiters::wake`], until [`Waiters::remove`].
    pub(crate) fn add(&self, waiter: &Arc<Notify>) {
        lock(&self.waiting).push(Arc::clone(waiter));
    }

    /// Ends what [`Waiters::add`] began.
    pub(crate) fn remove(&self, waiter: &Arc<Notify>) {
        lock(&self.waiting).retain(|other| !Arc::ptr_eq(other, waiter));
    }

    /// Wakes all; one that is not at its `notified().await` yet finds the permit there.
    pub(crate) fn wake(&self) {
        for waiter in lock(&self.waiting).iter() {
            waiter.notify_one();
        }
    }
}
