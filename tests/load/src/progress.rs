//! Progress bar on standard error. It is hidden if standard error is not a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Progress bar. It is drawn at most 20 times per second and cleared on drop.
pub(crate) struct Bar {
    bar: ProgressBar,
    /// Start time if the bar measures elapsed time. `None` if the bar counts.
    start: Option<Instant>,
}

impl Bar {
    /// Creates a bar that counts up to `total`.
    pub(crate) fn of(what: &'static str, total: usize) -> Self {
        Self::new(what, total as u64, "{prefix:>12} {bar:32} {pos}/{len}", None)
    }

    /// Creates a bar that measures elapsed time up to `span`.
    pub(crate) fn span(what: &'static str, span: Duration) -> Self {
        let start = Some(Instant::now());
        Self::new(what, span.as_millis() as u64, "{prefix:>12} {bar:32} {eta} left", start)
    }

    fn new(what: &'static str, total: u64, template: &str, start: Option<Instant>) -> Self {
        let bar = ProgressBar::new(total).with_prefix(what);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, start }
    }

    /// Increments the count by one, or updates the elapsed time.
    pub(crate) fn tick(&self) {
        if self.bar.is_hidden() {
            return;
        }
        match self.start {
            Some(start) => self.bar.set_position(start.elapsed().as_millis() as u64),
            None => self.bar.inc(1),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
