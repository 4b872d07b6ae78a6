//! Shutdown of a node. The first signal drains the node, and a second signal forces the shutdown. If a critical task
//! ends unexpectedly, the node is also drained.
//!
//! ```text
//! running ──first signal, begin()──► draining ──finish()──► stopping ──► all tasks ended
//!     └─ a critical task ended by itself ─► draining, exit code 70
//!        second signal, or timeout ──────────────────────► forced: exit code 1
//! ```
//!
//! Draining applies to readiness, sockets and everything else that serves clients. Stopping applies to the tasks that a
//! draining node still needs: archivers, buses and leases. `App` decides when draining is complete and stopping begins.
//!
//! **Invariant:** [`Shutdown::finish`] waits for every task that is spawned on [`Shutdown::tasks`]. Tasks that must
//! complete their work before the process exits are therefore spawned there.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Exit code if a critical task ended unexpectedly. Such an end indicates a bug (EX_SOFTWARE).
pub const CRASHED: u8 = 70;
/// Exit code of a forced shutdown, which does not wait for work in progress.
pub const FORCED: u8 = 1;

/// Shutdown state of a node. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    stopping: CancellationToken,
    forced: CancellationToken,
    tasks: TaskTracker,
    exit_code: Arc<AtomicU8>,
}

impl Shutdown {
    /// Creates the state of a running node.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts draining. Idempotent.
    pub fn begin(&self) {
        self.draining.cancel();
    }

    /// Returns whether draining has started.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Waits until draining starts. Cancel safe.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Waits until background work must stop. Cancel safe.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Returns whether background work must stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Runs `work` until it is complete or background work must stop. Returns `None` if `work` was cancelled.
    pub async fn until_stopping<F: Future>(&self, work: F) -> Option<F::Output> {
        self.stopping.run_until_cancelled(work).await
    }

    /// Returns a token that is cancelled when draining starts.
    pub fn draining_token(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Returns a token that is cancelled when background work must stop.
    pub fn stopping_token(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Waits until the shutdown is forced. The caller then drops the node without waiting for its tasks. Cancel safe.
    pub async fn forced(&self) {
        self.forced.cancelled().await;
    }

    /// Returns the tracker of the tasks of this node.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Spawns a task that [`Self::finish`] waits for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Spawns a critical task, without which the node cannot work. The task should return only after [`Self::stopping`]
    /// has returned. If the task panics, or if it returns before draining has started, the node is drained and its exit
    /// code is [`CRASHED`].
    pub fn spawn_critical<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let end = EndOfCritical { name, shutdown: self.clone() };
        // The guard is dropped when the task returns or panics.
        self.tasks.spawn(async move {
            let _end = end;
            task.await;
        });
    }

    /// Stops background work and waits for all tasks.
    pub async fn finish(&self) {
        self.begin();
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Returns the exit code of the process. It is 0 unless a critical task ended unexpectedly.
    pub fn exit_code(&self) -> u8 {
        self.exit_code.load(Ordering::Relaxed)
    }

    /// Installs handlers for SIGTERM and SIGINT. The first signal drains the node. A second signal forces the shutdown.
    /// The shutdown is also forced if it takes longer than `patience` after draining has started.
    ///
    /// # Errors
    /// Returns an error if the operating system rejects a signal handler.
    pub fn on_signals(&self, patience: Duration) -> std::io::Result<()> {
        let mut signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
        let shutdown = self.clone();
        // The task is not spawned on the tracker. `finish` would wait for it, but the task must run until the process
        // exits.
        tokio::spawn(async move {
            tokio::select! {
                () = any(&mut signals) => tracing::info!("shutdown requested, draining"),
                () = shutdown.draining() => {}
            }
            shutdown.begin();
            tokio::select! {
                () = any(&mut signals) => tracing::warn!("second shutdown requested, not waiting for work in flight"),
                () = tokio::time::sleep(patience) => {
                    tracing::error!(timeout_s = patience.as_secs(), "draining timed out, stopping");
                }
            }
            shutdown.forced.cancel();
        });
        Ok(())
    }
}

async fn any([first, second]: &mut [Signal; 2]) {
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}

/// Guard of a critical task. It is dropped when the task returns or panics, and then reports the end of the task.
struct EndOfCritical {
    name: &'static str,
    shutdown: Shutdown,
}

impl Drop for EndOfCritical {
    fn drop(&mut self) {
        if !self.shutdown.is_draining() || std::thread::panicking() {
            tracing::error!(task = self.name, "critical task ended, draining");
            self.shutdown.exit_code.store(CRASHED, Ordering::Relaxed);
            self.shutdown.begin();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finishing_waits_for_every_task_and_exits_with_0() {
        let shutdown = Shutdown::new();
        let task = shutdown.clone();
        shutdown.spawn_critical("archiver", async move { task.stopping().await });
        let task = shutdown.clone();
        shutdown.spawn(async move { task.draining().await });
        shutdown.begin();
        shutdown.finish().await;
        assert_eq!((shutdown.tasks().len(), shutdown.exit_code()), (0, 0));
    }

    #[tokio::test]
    async fn a_critical_task_that_ends_by_itself_drains_the_node() {
        for crash in [false, true] {
            let shutdown = Shutdown::new();
            shutdown.spawn_critical("bus", async move { assert!(!crash, "as this test wants it") });
            shutdown.draining().await;
            shutdown.finish().await;
            assert_eq!(shutdown.exit_code(), CRASHED);
        }
    }

    #[tokio::test]
    async fn a_drain_that_takes_too_long_is_forced() {
        let shutdown = Shutdown::new();
        shutdown.on_signals(Duration::from_millis(20)).unwrap();
        let begun = std::time::Instant::now();
        shutdown.begin();
        shutdown.forced().await;
        assert!(begun.elapsed() >= Duration::from_millis(20));
    }
}
