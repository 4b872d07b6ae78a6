//! Monitors whether the database can be written, using a probe and the errors of operations.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sea_orm::sea_query::{Expr, OnConflict, Query};
use sea_orm::sqlx::{ConnectOptions as _, Connection as _};
use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, ExprTrait, Iterable, QueryFilter, Statement,
};
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::domain::condition::Condition;
use crate::domain::{StoreCause, StoreFault};
use crate::store::database::files::FileProblem;
use crate::store::entity::{chat_message, chatroom, room_event, write_probe};
use crate::store::{Dialect, Store, StoreError};

/// Interval between checks of the SQLite files, and minimum interval between probes.
const TICK: Duration = Duration::from_millis(500);

/// Interval between probes of a writable server.
const INTERVAL: Duration = Duration::from_secs(2);

/// Interval between probes of a writable SQLite database. It is longer than [`INTERVAL`], because each probe is a
/// commit to disk and operations detect most faults first.
const SQLITE_INTERVAL: Duration = Duration::from_secs(5);

/// Timeout of a probe. With this timeout and [`INTERVAL`], the monitor detects within 5 s that a database stops
/// responding, and within 4 s that it has recovered.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Timeout of the connection that finds out why the database does not respond.
const DIAGNOSIS_TIMEOUT: Duration = Duration::from_secs(2);

/// Assumed duration of a fault that the probe does not detect, counted from the last operation that failed because of
/// it. The duration is short, because recovery must be detected within 5 s.
const HELD: Duration = Duration::from_secs(3);

/// Size in bytes of the value that the probe writes while the database is full. It is as large as a long message and
/// below the maximum length of the column.
const FILLER: usize = 60_000;

/// Key of the row whose counter every node increments.
const ROW: i64 = 1;

/// Key of a row that exists only within a transaction.
const FILLER_ROW: i64 = 2;

/// Current condition of the database.
#[derive(Debug)]
pub(in crate::store) struct Monitor {
    condition: watch::Sender<Option<StoreCause>>,
    log: Condition,
    /// Cause that a new connection revealed while operations only received no response.
    diagnosis: Mutex<Option<StoreFault>>,
    wake: Notify,
    /// Time at which an operation last failed because of a fault that the probe does not detect.
    met: Mutex<Option<Instant>>,
}

impl Monitor {
    pub(in crate::store) fn new() -> Self {
        Self {
            condition: watch::Sender::new(None),
            log: Condition::warning("sql not writable", "sql writable"),
            diagnosis: Mutex::default(),
            wake: Notify::new(),
            met: Mutex::default(),
        }
    }

    /// Records that an operation has failed for a reason other than its data, and wakes the probe. Returns the fault with
    /// the most specific cause that is known.
    pub(in crate::store) fn operation_failed(&self, fault: StoreFault) -> StoreFault {
        if fault.cause.outlasts_probe() {
            *self.met.lock() = Some(Instant::now());
        }
        if fault.cause.is_certain() {
            self.set_fault(&fault);
        }
        self.wake.notify_one();
        if fault.cause.is_vague() { self.diagnosis.lock().clone().unwrap_or(fault) } else { fault }
    }

    fn probe_succeeded(&self) {
        *self.diagnosis.lock() = None;
        let is_held = self.met.lock().is_some_and(|met| met.elapsed() < HELD);
        if !is_held && self.set(None) {
            self.log.end();
        }
    }

    fn set_fault(&self, fault: &StoreFault) {
        self.set(Some(fault.cause.clone()));
        if !self.is_permanent() || fault.cause == StoreCause::FilesLost {
            self.log.fail(&fault.cause, &fault.detail());
        }
    }

    fn is_permanent(&self) -> bool {
        *self.condition.borrow() == Some(StoreCause::FilesLost)
    }

    /// Sets the condition. Returns whether the fault is not permanent.
    fn set(&self, condition: Option<StoreCause>) -> bool {
        self.condition.send_if_modified(|known| {
            let is_new = *known != condition && *known != Some(StoreCause::FilesLost);
            if is_new {
                *known = condition;
            }
            is_new
        });
        !self.is_permanent()
    }
}

impl Store {
    /// Returns a receiver for the cause why the database cannot be written. The value is `None` while the database can
    /// be written. It is updated within seconds, or immediately if the error of an operation proves the fault.
    pub fn condition(&self) -> watch::Receiver<Option<StoreCause>> {
        self.shared.monitor.condition.subscribe()
    }

    /// Keeps [`condition`](Self::condition) up to date until `stop` is cancelled.
    pub async fn monitor(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let interval = if self.dialect == Dialect::Sqlite { SQLITE_INTERVAL } else { INTERVAL };
        let (mut probed, mut is_woken): (Option<Instant>, bool) = (None, false);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            is_woken |= tokio::time::timeout(Duration::ZERO, self.shared.monitor.wake.notified()).await.is_ok();
            let is_faulty = self.shared.monitor.condition.borrow().is_some();
            let is_due = probed.is_none_or(|at| at.elapsed() >= interval);
            if is_woken || is_faulty || is_due {
                is_woken = false;
                if stop.run_until_cancelled(self.probe()).await.is_none() {
                    return;
                }
                probed = Some(Instant::now());
            } else if let Err(fault) = self.verify_files().await {
                tracing::debug!(error = %fault, "sqlite file check failed");
            }
        }
    }

    /// Writes to the database and updates [`condition`](Self::condition).
    ///
    /// # Errors
    /// Returns the fault that prevents the write.
    pub async fn probe(&self) -> Result<(), StoreFault> {
        let monitor = &self.shared.monitor;
        let is_full = *monitor.condition.borrow() == Some(StoreCause::Full);
        let fault = match tokio::time::timeout(TIMEOUT, self.probe_once(is_full)).await {
            Ok(Ok(())) => {
                monitor.probe_succeeded();
                return Ok(());
            }
            Ok(Err(fault)) => fault,
            Err(_) => StoreFault::sql(StoreCause::NoResponse, format!("probe exceeded {} s", TIMEOUT.as_secs())),
        };
        let fault = self.diagnose(fault).await;
        monitor.set_fault(&fault);
        Err(fault)
    }

    /// Tests whether the database responds.
    ///
    /// # Errors
    /// Returns the fault of a new connection. The pool would report it only as a timeout.
    pub async fn reach(&self) -> Result<(), StoreFault> {
        self.connect_once().await?;
        Ok(self.ping().await?)
    }

    async fn probe_once(&self, is_full: bool) -> Result<(), StoreFault> {
        self.verify_files().await?;
        let running = self.shared.recycle.running();
        let outcome = self.attempts(|| self.write_probe(is_full)).await;
        running.done();
        outcome.map_err(|error| StoreFault::from(StoreError::from(error)))?;
        self.verify_files().await
    }

    /// Opens a new connection if the cause of a fault is vague, and returns the fault of this connection. The pool reports
    /// most failed connections only as a timeout.
    async fn diagnose(&self, fault: StoreFault) -> StoreFault {
        if !fault.cause.is_vague() {
            return fault;
        }
        let fault = self.connect_once().await.err().unwrap_or(fault);
        *self.shared.monitor.diagnosis.lock() = Some(fault.clone());
        fault
    }

    /// Opens and closes a connection to the database server. Does nothing for SQLite.
    async fn connect_once(&self) -> Result<(), StoreFault> {
        let Some(options) = &self.shared.server else { return Ok(()) };
        match tokio::time::timeout(DIAGNOSIS_TIMEOUT, options.connect()).await {
            Ok(Ok(connection)) => {
                // A failure to close the connection has no consequence.
                let _closed = connection.close().await;
                Ok(())
            }
            Ok(Err(error)) => Err(StoreFault::sql(StoreCause::of_sqlx(&error), error.to_string())),
            Err(_) => {
                let limit = format!("connection exceeded {} s", DIAGNOSIS_TIMEOUT.as_secs());
                Err(StoreFault::sql(StoreCause::NoResponse, limit))
            }
        }
    }

    /// Writes to the table of the probe. On a server, the probe also tests the privileges and locks of the most
    /// important tables with statements that match no row. Each statement is committed separately, so that a node that
    /// stalls between two statements holds no lock.
    async fn write_probe(&self, is_full: bool) -> Result<(), DbErr> {
        if self.dialect == Dialect::MySql {
            self.insert_nothing(chat_message::Entity).await?;
            self.insert_nothing(chatroom::Entity).await?;
            let never = Expr::cust("1 = 0");
            chatroom::Entity::update_many()
                .col_expr(chatroom::Column::LastSeq, Expr::col(chatroom::Column::LastSeq))
                .filter(never.clone())
                .exec(&self.writer)
                .await?;
            room_event::Entity::delete_many().filter(never).exec(&self.writer).await?;
        }
        let row = |id, filler| write_probe::ActiveModel {
            id: ActiveValue::Set(id),
            counter: ActiveValue::Set(0),
            filler: ActiveValue::Set(filler),
        };
        let count = Expr::col((write_probe::Entity, write_probe::Column::Counter)).add(1);
        let count_up =
            OnConflict::column(write_probe::Column::Id).value(write_probe::Column::Counter, count).to_owned();
        write_probe::Entity::insert(row(ROW, None)).on_conflict(count_up).exec_without_returning(&self.writer).await?;
        if is_full {
            let tx = self.begin().await?;
            write_probe::Entity::insert(row(FILLER_ROW, Some(vec![0x5a; FILLER]))).exec_without_returning(&tx).await?;
            write_probe::Entity::delete_many().filter(write_probe::Column::Id.eq(FILLER_ROW)).exec(&tx).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    async fn insert_nothing<E: EntityTrait>(&self, entity: E) -> Result<(), DbErr> {
        let nothing = Query::select()
            .columns(E::Column::iter())
            .from(entity.table_ref())
            .and_where(Expr::cust("1 = 0"))
            .to_owned();
        let insert = Query::insert()
            .into_table(entity.table_ref())
            .columns(E::Column::iter())
            .select_from(nothing)
            .map_err(|error| DbErr::Custom(error.to_string()))?
            .to_owned();
        self.writer.execute(&insert).await?;
        Ok(())
    }

    /// Checks that the SQLite files are the files that were opened.
    pub(in crate::store) async fn verify_files(&self) -> Result<(), StoreFault> {
        let Some(files) = &self.shared.files else { return Ok(()) };
        files.create().map_err(|error| StoreFault::sql(StoreCause::ConnectionLost, error.to_string()))?;
        let problem = match files.check() {
            Ok(()) => return Ok(()),
            Err(FileProblem::Shorter) => match self.expected_sizes().await {
                Ok((database, log)) => match files.check_sizes(database, log) {
                    Ok(()) => return Ok(()),
                    Err(problem) => problem,
                },
                Err(error) if StoreCause::of_sql(&error) == StoreCause::Other => files.mark_shorter_lost(),
                Err(error) => FileProblem::Unknown(error.to_string()),
            },
            Err(problem) => problem,
        };
        match problem {
            FileProblem::Lost(reason) => {
                let fault = StoreFault::sql(StoreCause::FilesLost, reason);
                self.shared.monitor.set_fault(&fault);
                Err(fault)
            }
            FileProblem::Unknown(reason) => Err(StoreFault::sql(StoreCause::ConnectionLost, reason)),
            FileProblem::Shorter => Ok(()),
        }
    }

    /// Returns the minimum sizes in bytes that SQLite expects of the database and its WAL.
    async fn expected_sizes(&self) -> Result<(u64, u64), DbErr> {
        let number = async |pragma: &str, column: usize| {
            let statement = Statement::from_string(self.writer.get_database_backend(), format!("PRAGMA {pragma}"));
            let row = self.writer.query_one_raw(statement).await?;
            let value = row.map(|row| row.try_get_by_index::<i64>(column)).transpose()?;
            Ok::<u64, DbErr>(value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default())
        };
        let page = number("page_size", 0).await?;
        let database = number("page_count", 0).await? * page;
        // The second column is the number of frames in the WAL. This checkpoint mode does not move any frame.
        let frames = number("wal_checkpoint(NOOP)", 1).await?;
        // The WAL has a 32-byte header. Each frame has a 24-byte header and one page.
        let log = if frames == 0 { 0 } else { 32 + frames * (24 + page) };
        Ok((database, log))
    }
}
