//! Log output. A separate thread writes formatted lines to standard error.
//!
//! Logging never blocks the caller. Lines wait in a buffer of [`CAPACITY`] bytes. A line is dropped and counted if it
//! does not fit into the buffer or if standard error rejects it. When a write succeeds again, the number of dropped
//! lines is logged.
//!
//! `tracing-appender` is not used: it limits its queue by lines instead of bytes, does not count failed writes, and
//! prints at exit to the same stream, which may be blocked.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::Dispatch;
use tracing_subscriber::fmt::MakeWriter;

use super::metrics::{DropReason, ProcessMetrics};

/// Capacity of the buffer in bytes. The writer holds a second buffer of this size while it writes. About 8,000 lines
/// fit: the output of a typical node in a minute, or of a node whose sockets all reconnect at once.
const CAPACITY: usize = 1024 * 1024;

/// Pause before the next write if standard error is non-blocking and cannot accept more bytes.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// Maximum time for writing the remaining lines at exit.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

static LOG: OnceLock<Log> = OnceLock::new();

/// Log of the process.
struct Log {
    lines: Arc<Lines>,
    /// Subscriber that queues all events independently of RUST_LOG.
    unfiltered: Dispatch,
}

/// Lines that wait for the writer thread.
#[derive(Default)]
pub(super) struct Lines {
    buffer: Mutex<Buffer>,
    /// Notified when the buffer has become non-empty.
    filled: Condvar,
    /// Notified when all queued lines have been written.
    written: Condvar,
    /// Number of lines that were dropped because the buffer was full.
    overflowed: AtomicU64,
    /// Number of lines that were dropped because standard error returned an error.
    failed: AtomicU64,
}

#[derive(Default)]
struct Buffer {
    text: Vec<u8>,
    /// Number of lines that were dropped after the last line of `text`.
    dropped: u64,
    is_writing: bool,
}

impl Lines {
    /// Queues a line. Drops and counts it if the buffer is full.
    fn push(&self, line: &[u8]) {
        let mut buffer = self.buffer.lock();
        if buffer.text.len() + line.len() <= CAPACITY {
            buffer.text.extend_from_slice(line);
        } else {
            buffer.dropped += 1;
            self.overflowed.fetch_add(1, Ordering::Relaxed);
        }
        drop(buffer);
        self.filled.notify_one();
    }

    /// Writes queued lines and never returns. `report` formats the line that states the number of dropped lines.
    fn write_to(&self, mut out: impl Write, report: impl Fn(u64) -> Vec<u8>) {
        let (mut text, mut unreported) = (Vec::new(), 0);
        loop {
            let mut buffer = self.buffer.lock();
            buffer.is_writing = false;
            while buffer.text.is_empty() && buffer.dropped == 0 {
                self.written.notify_all();
                self.filled.wait(&mut buffer);
            }
            text.clear();
            std::mem::swap(&mut text, &mut buffer.text);
            let dropped = std::mem::take(&mut buffer.dropped);
            buffer.is_writing = true;
            drop(buffer);

            // The report is written at the position of the dropped lines: before `text` if they precede it, and after
            // `text` if they follow it.
            if unreported > 0 && write_all(&mut out, &report(unreported)).is_ok() {
                unreported = 0;
            }
            if let Err(lost) = write_all(&mut out, &text) {
                self.failed.fetch_add(lost, Ordering::Relaxed);
                unreported += lost;
            }
            unreported += dropped;
            if unreported > 0 && write_all(&mut out, &report(unreported)).is_ok() {
                unreported = 0;
            }
        }
    }

    /// Waits until all queued lines have been written, but not longer than `timeout`.
    fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut buffer = self.buffer.lock();
        while buffer.is_writing || !buffer.text.is_empty() || buffer.dropped > 0 {
            if self.written.wait_until(&mut buffer, deadline).timed_out() {
                return;
            }
        }
    }
}

/// Writes `text`. On failure, returns the number of lines that were not written completely.
fn write_all(out: &mut impl Write, mut text: &[u8]) -> Result<(), u64> {
    while !text.is_empty() {
        match out.write(text) {
            Ok(written @ 1..) => text = text.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL_PAUSE),
            Ok(0) | Err(_) => return Err(text.iter().filter(|&&byte| byte == b'\n').count() as u64),
        }
    }
    Ok(())
}

#[derive(Clone)]
pub(super) struct QueuedLines(Arc<Lines>);

impl<'a> MakeWriter<'a> for QueuedLines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for QueuedLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writer that stores a formatted event in memory.
#[derive(Clone, Default)]
struct Formatted(Arc<Mutex<Vec<u8>>>);

impl Write for Formatted {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the writer thread and returns the writer for the log of the process. Later calls return the same writer.
/// `dispatch` creates a subscriber that formats all events and writes them to the given writer.
pub(super) fn start<F>(dispatch: F) -> QueuedLines
where
    F: Fn(tracing_subscriber::fmt::writer::BoxMakeWriter) -> Dispatch,
{
    use tracing_subscriber::fmt::writer::BoxMakeWriter;
    let log = LOG.get_or_init(|| {
        let lines = Arc::new(Lines::default());
        let unfiltered = dispatch(BoxMakeWriter::new(QueuedLines(lines.clone())));
        let formatted = Formatted::default();
        let sink = formatted.clone();
        let report_dispatch = dispatch(BoxMakeWriter::new(move || sink.clone()));
        let report = move |dropped: u64| {
            tracing::dispatcher::with_default(&report_dispatch, || tracing::warn!(dropped, "log lines dropped"));
            std::mem::take(&mut *formatted.0.lock())
        };
        let writer = lines.clone();
        let thread = std::thread::Builder::new().name("log".to_owned());
        if let Err(error) = thread.spawn(move || writer.write_to(io::stderr(), report)) {
            // The program continues without a log. The async runtime also needs threads and will report its own error.
            print_within(FLUSH_TIMEOUT, io::stderr(), format!("error: no thread for the log: {error}"));
        }
        Log { lines, unfiltered }
    });
    QueuedLines(log.lines.clone())
}

/// Logs panics as errors independently of RUST_LOG. The default hook writes directly to standard error and could block.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let Some(log) = LOG.get() else { return };
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace = match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => Some(tracing::field::display(backtrace)),
            _ => None,
        };
        tracing::dispatcher::with_default(&log.unfiltered, || {
            tracing::error!(thread = name, location, panic = message, backtrace, "thread panicked");
        });
        if name == "main" {
            // After a panic of the main thread, the process ends.
            flush();
        }
    }));
}

/// Waits until all log lines have been written, but not longer than one second.
pub fn flush() {
    if let Some(log) = LOG.get() {
        log.lines.flush(FLUSH_TIMEOUT);
    }
}

/// Prints a string and a line end. Stops waiting after one second if the stream is blocked.
pub fn print(out: impl Write + Send + 'static, text: String) {
    print_within(FLUSH_TIMEOUT, out, text);
}

fn print_within(timeout: Duration, mut out: impl Write + Send + 'static, mut text: String) {
    text.push('\n');
    let (done, printed) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("print".to_owned());
    let spawned = thread.spawn(move || {
        // A closed pipe is not an error. Other errors are ignored too, because the program cannot print them.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        let _ = done.send(());
    });
    if spawned.is_ok() {
        let _ = printed.recv_timeout(timeout);
    }
}

pub(super) fn observe(metrics: &ProcessMetrics) {
    let Some(log) = LOG.get() else { return };
    let counts = [(DropReason::BufferFull, &log.lines.overflowed), (DropReason::WriteFailed, &log.lines.failed)];
    for (reason, count) in counts {
        metrics.log_lines_dropped.get(reason).absolute(count.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests;
