//! How a node ends: drained when asked, at once when asked twice, and never by a task that died unseen.
//!
//! ```text
//! running ──first signal, begin()──► draining ──finish()──► stopping ──► all tasks ended
//!     └─ a critical task ended by itself ─► draining, exit code 70
//!        second signal, or too late ─────────────────────► forced: exit code 1
//! ```
//! Draining is for whoever serves clients (readiness, sockets); stopping is for what they still need meanwhile
//! (archivers, buses, leases). `app` decides when the first has given way to the second.
//!
//! **Invariant:** every spawned task hangs off the tracker here, so that the end of the node is the end of them all.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Exit code when a critical task ended by itself: the fault is in the program (EX_SOFTWARE).
pub const CRASHED: u8 = 70;
/// Exit code when the end did not wait for the work.
pub const FORCED: u8 = 1;

/// The end of a node, shared by all who have to do with it. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    stopping: CancellationToken,
    forced: CancellationToken,
    tasks: TaskTracker,
    exit_code: Arc<AtomicU8>,
}

impl Shutdown {
    /// A node that runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to drain; again, nothing happens.
    pub fn begin(&self) {
        self.draining.cancel();
    }

    /// Whether the node drains, or is past it.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Waits for the draining to begin. Safe to drop and call again.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Waits until background work is to end. Safe to drop and call again.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Cancelled when the node begins to drain.
    pub fn draining_token(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Cancelled when background work is to end.
    pub fn stopping_token(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Waits until there is no more waiting: whoever runs the node drops it then.
    pub async fn forced(&self) {
        self.forced.cancelled().await;
    }

    /// The tasks of this node.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Starts a task that [`Self::finish`] waits for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Starts a task without which the node is of no use. It ends after [`Self::stopping`]; when it returns or panics
    /// before the draining has begun, the node drains and its exit code is [`CRASHED`].
    pub fn spawn_critical<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let end = EndOfCritical { name, shutdown: self.clone() };
        // The guard is dropped when the task returns, and while it unwinds.
        self.tasks.spawn(async move {
            let _end = end;
            task.await;
        });
    }

    /// Ends background work and waits for all tasks.
    pub async fn finish(&self) {
        self.begin();
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// What the process should end with: 0 unless a critical task crashed.
    pub fn exit_code(&self) -> u8 {
        self.exit_code.load(Ordering::Relaxed)
    }

    /// From now on SIGTERM and SIGINT drain the node; a second one, or `patience` after the draining began for
    /// whatever reason, forces its end.
    ///
    /// # Errors
    /// What the operating system says when it gives no signal handler.
    pub fn on_signals(&self, patience: Duration) -> std::io::Result<()> {
        let mut signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
        let shutdown = self.clone();
        // Not tracked: it watches over the very wait for the tracked ones, and dies with the runtime.
        tokio::spawn(async move {
            tokio::select! {
                () = any(&mut signals) => tracing::info!("shutdown requested, draining"),
                () = shutdown.draining() => {}
            }
            shutdown.begin();
            tokio::select! {
                () = any(&mut signals) => tracing::warn!("second shutdown request, not waiting for work in flight"),
                () = tokio::time::sleep(patience) => {
                    tracing::error!(patience_s = patience.as_secs(), "draining timed out, stopping");
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

/// Tells the end of a critical task, whichever way it comes.
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
    async fn finishing_waits_for_every_task_and_ends_well() {
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
