//! Which connections of a pool are not used again: those opened before the last failure that a new connection may be free of.
//!
//! A pool resolves its server's name for each new connection, so that after a failover the writer behind the same name is found.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use sea_orm::sqlx;
use sea_orm::sqlx::pool::PoolConnectionMetadata;

/// How long an idle or cancelled connection may take to answer before it is closed: a round trip, with room for a slow server.
const ANSWER: Duration = Duration::from_secs(1);

/// Readers are replaced at most this often: while a server stays read-only, each failed write would replace all of them.
const READERS_INTERVAL: Duration = Duration::from_secs(1);

/// Longer than any operation: until then a connection whose caller was cancelled is in a pool or closed.
const CANCELLED_FOR: Duration = Duration::from_secs(15);

/// What a pool's connections are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Write,
}

/// Shared by the pools of one store. Instants are in milliseconds since `began`, and 0 is never.
#[derive(Debug)]
pub(super) struct Recycle {
    began: Instant,
    writers: AtomicU64,
    readers: AtomicU64,
    cancelled: AtomicU64,
}

impl Recycle {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            writers: AtomicU64::default(),
            readers: AtomicU64::default(),
            cancelled: AtomicU64::default(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Closes every connection that is open now, as soon as it is idle.
    pub(super) fn discard(&self) {
        let now = self.now();
        self.writers.fetch_max(now, Relaxed);
        let interval = READERS_INTERVAL.as_millis() as u64;
        let due = |last: u64| (last == 0 || now.saturating_sub(last) >= interval).then_some(now);
        // A concurrent call has done the same.
        let _is_recent = self.readers.fetch_update(Relaxed, Relaxed, due);
    }

    /// When [`discard`](Self::discard) was last called.
    pub(super) fn discarded(&self) -> u64 {
        self.writers.load(Relaxed)
    }

    /// A guard for the time of an operation: dropped without [`Running::done`], the operation was cancelled.
    pub(super) fn running(&self) -> Running<'_> {
        Running { recycle: self, is_done: false }
    }

    fn is_discarded(&self, of: Use, connection: PoolConnectionMetadata) -> bool {
        let before = match of {
            Use::Read => self.readers.load(Relaxed),
            Use::Write => self.writers.load(Relaxed),
        };
        let opened = self.began.elapsed().saturating_sub(connection.age);
        // Rounded down: one that was opened in the same millisecond is closed, too.
        before > 0 && opened.as_millis() <= u128::from(before)
    }

    /// Whether an idle connection may be used. It is closed if it does not answer in time, and the others of its age with it.
    pub(super) async fn may_use<C: sqlx::Connection>(
        &self,
        of: Use,
        connection: &mut C,
        metadata: PoolConnectionMetadata,
    ) -> Result<bool, sqlx::Error> {
        if self.is_discarded(of, metadata) {
            return Ok(false);
        }
        match tokio::time::timeout(ANSWER, connection.ping()).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(error)) => {
                tracing::debug!(%error, "idle sql connection was lost");
                Ok(false)
            }
            Err(_) => {
                tracing::debug!("idle sql connection does not answer");
                self.discard();
                Ok(false)
            }
        }
    }

    /// Whether a connection goes back to its pool. One whose operation was cancelled still has its answer to receive, which a
    /// server that is stuck never sends: without a limit it would occupy its place in the pool.
    pub(super) async fn may_return<C: sqlx::Connection>(
        &self,
        of: Use,
        connection: &mut C,
        metadata: PoolConnectionMetadata,
    ) -> Result<bool, sqlx::Error> {
        if self.is_discarded(of, metadata) {
            return Ok(false);
        }
        let cancelled = self.cancelled.load(Relaxed);
        if cancelled == 0 || self.now().saturating_sub(cancelled) > CANCELLED_FOR.as_millis() as u64 {
            return Ok(true);
        }
        match tokio::time::timeout(ANSWER, connection.ping()).await {
            Ok(Ok(())) => Ok(true),
            // The error of the cancelled statement, or of the connection.
            Ok(Err(error)) => {
                tracing::debug!(%error, "sql connection of a cancelled operation was closed");
                Ok(false)
            }
            Err(_) => Ok(false),
        }
    }
}

/// See [`Recycle::running`].
pub(super) struct Running<'a> {
    recycle: &'a Recycle,
    is_done: bool,
}

impl Running<'_> {
    pub(super) fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.recycle.cancelled.fetch_max(self.recycle.now(), Relaxed);
        }
    }
}
