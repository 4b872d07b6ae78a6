//! Metrics of the store.

use metrics::{Histogram, Label};

use crate::domain::metric::{LabelDescription, OpenFamily, OpenLabels, metric_set};

metric_set! {
    /// Metrics of the store's operations.
    pub(crate) struct SqlMetrics {
        /// Duration of a store operation, retries included, by the part of the store that implements it.
        duration: OpenFamily<Histogram, Operation> = "pintalk_sql_duration_seconds", Seconds;
    }
}

/// Name of a store operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation(pub(crate) &'static str);

impl OpenLabels for Operation {
    const LABELS: &'static [LabelDescription] = &[LabelDescription { name: "operation", values: &[] }];

    fn labels(self) -> Vec<Label> {
        vec![Label::from_static_parts("operation", self.0)]
    }
}
