//! Typed metrics. A component declares its metrics with `metric_set!` next to its code and stores their handles.
//! `node::telemetry` collects all declarations. A test compares them with the table in `grafana/README.md`.
//!
//! A component creates its handles once, after the metrics recorder is installed. Recording through a handle takes a
//! tenth of the time of a lookup by name.
//!
//! **Invariant:** the number of values of a label does not depend on the number of rooms, users or paths, because a
//! series is never removed.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::OnceLock;

pub(crate) use metrics::{Counter, Histogram};
use metrics::{Label, Unit, describe_counter, describe_gauge, describe_histogram};

mod labels;

pub use labels::LabelDescription;
pub(crate) use labels::{ClosedLabels, LabelValue, OpenLabels, StoreKind, combinations, label};

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Total that only increases while the process runs.
    Counter,
    /// Current value.
    Gauge,
    /// Number of recorded values in each bucket.
    Histogram,
}

/// Description of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name that follows the conventions of Prometheus.
    pub name: &'static str,
    /// Whether the metric is a counter, a gauge or a histogram.
    pub kind: MetricKind,
    /// Unit of the recorded values.
    pub unit: Unit,
    /// Labels that distinguish the series of the metric.
    pub labels: &'static [LabelDescription],
    /// Doc comment of the field that declares the metric, with a leading space.
    doc: &'static str,
}

impl Metric {
    /// Creates the description of a metric whose handle has the type `H`. `doc` is the doc comment of its field.
    pub(crate) const fn new<H: Handle>(name: &'static str, unit: Unit, doc: &'static str) -> Self {
        Self { name, kind: H::KIND, unit, labels: H::LABELS, doc }
    }

    /// Returns the help text.
    pub const fn help(&self) -> &'static str {
        self.doc.trim_ascii()
    }

    /// Passes the help text to the recorder.
    pub(crate) fn describe(&self) {
        match self.kind {
            MetricKind::Counter => describe_counter!(self.name, self.unit, self.help()),
            MetricKind::Gauge => describe_gauge!(self.name, self.unit, self.help()),
            MetricKind::Histogram => describe_histogram!(self.name, self.unit, self.help()),
        }
    }
}

/// Handle of one metric. The metric has one series, or one series per combination of label values.
pub(crate) trait Handle: fmt::Debug {
    /// Type of the metric.
    const KIND: MetricKind;
    /// Labels of the metric.
    const LABELS: &'static [LabelDescription];

    /// Creates the handle of the series with these label values.
    fn register(name: &'static str, labels: Vec<Label>) -> Self;
}

impl Handle for Counter {
    const KIND: MetricKind = MetricKind::Counter;
    const LABELS: &'static [LabelDescription] = &[];

    fn register(name: &'static str, labels: Vec<Label>) -> Self {
        metrics::counter!(name, labels)
    }
}

impl Handle for metrics::Gauge {
    const KIND: MetricKind = MetricKind::Gauge;
    const LABELS: &'static [LabelDescription] = &[];

    fn register(name: &'static str, labels: Vec<Label>) -> Self {
        metrics::gauge!(name, labels)
    }
}

impl Handle for Histogram {
    const KIND: MetricKind = MetricKind::Histogram;
    const LABELS: &'static [LabelDescription] = &[];

    fn register(name: &'static str, labels: Vec<Label>) -> Self {
        metrics::histogram!(name, labels)
    }
}

/// Gauge that is exported only after its first use.
pub(crate) type Gauge = OnFirstUse<metrics::Gauge>;

/// Handle that is registered on first use. Its series is not exported before.
pub(crate) struct OnFirstUse<H> {
    name: &'static str,
    labels: Vec<Label>,
    handle: OnceLock<H>,
}

impl<H> OnFirstUse<H> {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

impl<H: Handle> Deref for OnFirstUse<H> {
    type Target = H;

    fn deref(&self) -> &H {
        self.handle.get_or_init(|| H::register(self.name, self.labels.clone()))
    }
}

impl<H: Handle> Handle for OnFirstUse<H> {
    const KIND: MetricKind = H::KIND;
    const LABELS: &'static [LabelDescription] = H::LABELS;

    fn register(name: &'static str, labels: Vec<Label>) -> Self {
        Self { name, labels, handle: OnceLock::new() }
    }
}

impl<H> fmt::Debug for OnFirstUse<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnFirstUse").field(&self.name).finish()
    }
}

/// Handles of a metric's series, one per combination of label values. The values of each label form a closed set.
pub(crate) struct Family<H, L> {
    handles: Box<[H]>,
    labels: PhantomData<fn(L)>,
}

impl<H: Handle, L: ClosedLabels> Family<H, L> {
    /// Returns the handle of a series.
    pub(crate) fn get(&self, labels: L) -> &H {
        // `register` created a handle for each position, so the index is in range.
        &self.handles[labels.position()]
    }
}

impl<L: ClosedLabels> Family<Gauge, L> {
    /// Sets the series with these labels to 1 and all others to 0. `None` sets all to 0.
    pub(crate) fn set_only(&self, labels: Option<L>) {
        let selected = labels.map(L::position);
        for (position, handle) in self.handles.iter().enumerate() {
            handle.set(u8::from(selected == Some(position)));
        }
    }
}

impl<H: Handle, L: ClosedLabels> Handle for Family<H, L> {
    const KIND: MetricKind = H::KIND;
    const LABELS: &'static [LabelDescription] = L::LABELS;

    fn register(name: &'static str, _: Vec<Label>) -> Self {
        let handles = combinations(L::LABELS).into_iter().map(|labels| H::register(name, labels)).collect();
        Self { handles, labels: PhantomData }
    }
}

impl<H: fmt::Debug, L> fmt::Debug for Family<H, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.handles).finish()
    }
}

/// Metric whose label values are not known in advance. A handle is looked up at each use.
pub(crate) struct OpenFamily<H, L> {
    name: &'static str,
    types: PhantomData<fn(L) -> H>,
}

impl<H: Handle, L: OpenLabels> OpenFamily<H, L> {
    /// Returns the handle of a series, found by its name and labels.
    pub(crate) fn find(&self, labels: L) -> H {
        H::register(self.name, labels.labels())
    }
}

impl<H: Handle, L: OpenLabels> Handle for OpenFamily<H, L> {
    const KIND: MetricKind = H::KIND;
    const LABELS: &'static [LabelDescription] = L::LABELS;

    fn register(name: &'static str, _: Vec<Label>) -> Self {
        Self { name, types: PhantomData }
    }
}

impl<H, L> fmt::Debug for OpenFamily<H, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenFamily").field(&self.name).finish()
    }
}

/// Declares a struct of metrics. Each field declares a handle, a name and a unit. The doc comment of the field is the
/// help text.
macro_rules! metric_set {
    (
        $(#[doc = $about:literal])*
        $visibility:vis struct $set:ident {
            $($(#[doc = $help:literal])+ $field:ident: $handle:ty = $name:literal, $unit:ident;)*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug)]
        $visibility struct $set {
            $($(#[doc = $help])+ $visibility $field: $handle,)*
        }

        impl $set {
            /// Descriptions of the metrics.
            pub(crate) const TABLE: &'static [$crate::domain::metric::Metric] = &[$(
                $crate::domain::metric::Metric::new::<$handle>($name, ::metrics::Unit::$unit, concat!($($help),+))
            ),*];
        }

        /// Creates the handles of all metrics of the set.
        impl Default for $set {
            fn default() -> Self {
                use $crate::domain::metric::Handle as _;
                Self { $($field: <$handle>::register($name, Vec::new()),)* }
            }
        }
    };
}

pub(crate) use metric_set;

#[cfg(test)]
mod tests;
