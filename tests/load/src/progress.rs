//! A bar on standard error, when that is a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How far something is. It draws itself at most ten times a second, and clears itself at the end.
pub(crate) struct Bar {
    bar: ProgressBar,
    /// With it, it is time that passes and not things that are done.
    start: Option<Instant>,
}

impl Bar {
    /// Counts things.
    pub(crate) fn of(what: &'static str, total: usize) -> Self {
        Self::new(what, total as u64, "{prefix:>12} {bar:32} {pos}/{len}", None)
    }

    /// Counts milliseconds.
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

    /// One more thing is done, or time has passed.
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
