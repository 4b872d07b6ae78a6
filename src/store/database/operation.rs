//! Runs operations with a timeout, retries, transactions and the duration metric.

use std::pin::pin;
use std::time::{Duration, Instant};

use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbErr, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

use crate::domain::{StoreCause, StoreFault};
use crate::store::database::error;
use crate::store::metrics::Operation;
use crate::store::{OPERATION_TIMEOUT, Store, StoreError, StoreState};

/// Maximum number of retries after a deadlock or a lock wait timeout.
const RETRIES: u32 = 3;

impl Store {
    /// Runs an operation within [`OPERATION_TIMEOUT`]. Retries the operation if the database rolled it back because of
    /// other transactions (deadlock, lock wait timeout). The duration is recorded under `label`. Labels are part of the
    /// public interface of the metric: several operations may share one label, and a label does not change when an
    /// operation is renamed.
    pub(in crate::store) async fn run<T, F>(
        &self,
        label: &'static str,
        operation: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, DbErr>>,
    {
        let began = Instant::now();
        let result = self.run_for(operation).await;
        self.shared.metrics.duration.find(Operation(label)).record(began.elapsed());
        result
    }

    async fn run_for<T, F>(&self, operation: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, DbErr>>,
    {
        self.verify_files().await.map_err(StoreError::Unavailable)?;
        let StoreState { monitor, recycle, .. } = &*self.shared;
        let result = {
            let mut attempts = pin!(self.attempts(operation));
            // If the caller drops this future, the guard is dropped first. It records the cancellation before the
            // connection of the attempts returns to its pool.
            let running = recycle.running();
            let result = tokio::time::timeout(OPERATION_TIMEOUT, attempts.as_mut()).await;
            if result.is_err() {
                recycle.discard();
            } else {
                running.done();
            }
            result
        };
        match result {
            // A commit to a file that was deleted during the operation is lost and must not be acknowledged.
            Ok(Ok(done)) => self.verify_files().await.map(|()| done).map_err(StoreError::Unavailable),
            Ok(Err(error)) => Err(match StoreError::from(error) {
                StoreError::Unavailable(fault) => StoreError::Unavailable(monitor.operation_failed(fault)),
                error => error,
            }),
            Err(_) => {
                let limit = format!("operation exceeded {} s", OPERATION_TIMEOUT.as_secs());
                let fault = monitor.operation_failed(StoreFault::sql(StoreCause::NoResponse, limit));
                Err(StoreError::Unavailable(fault))
            }
        }
    }

    /// Runs an operation until it succeeds or a retry would be useless. A write that the database rejected because of
    /// the connection is retried once on a new connection. This is safe, because the database did not execute the
    /// write.
    pub(in crate::store) async fn attempts<T, F>(&self, operation: impl Fn() -> F) -> Result<T, DbErr>
    where
        F: Future<Output = Result<T, DbErr>>,
    {
        let (mut attempt, mut is_first_refusal) = (0, true);
        loop {
            let error = match operation().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if error::is_contention(&error) {
                if attempt == RETRIES {
                    return Err(error);
                }
                attempt += 1;
                tracing::debug!(%error, attempt, "transaction conflict, retrying");
                tokio::time::sleep(Duration::from_millis(10) * attempt * attempt).await;
                continue;
            }
            if !error::is_unavailable(&error) {
                return Err(error);
            }
            let cause = StoreCause::of_sql(&error);
            if cause.is_of_connection() {
                self.shared.recycle.discard();
            }
            if !(is_first_refusal && (cause == StoreCause::ReadOnly || cause.is_denial())) {
                return Err(error);
            }
            is_first_refusal = false;
            tracing::debug!(%error, "sql connection rejected a write, retrying on new connection");
        }
    }

    /// Begins a transaction that will write. On SQLite, the transaction takes the write lock immediately. Otherwise, it
    /// would fail if another process wrote between its first read and its first write.
    pub(in crate::store) async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        begin_on(&self.writer).await
    }

    /// Begins a transaction like [`begin`](Self::begin), but on the pool for batches of messages.
    pub(in crate::store) async fn begin_batch(&self) -> Result<DatabaseTransaction, DbErr> {
        begin_on(&self.archiver).await
    }
}

async fn begin_on(pool: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    pool.begin_with_options(TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..Default::default()
    })
    .await
}
