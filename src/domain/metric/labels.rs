//! Labels of metrics.

use std::fmt;

use metrics::Label;

/// Name of a label and, if the label has a closed set of values, all its values.
#[derive(Clone, Copy, Debug)]
pub struct LabelDescription {
    /// Name of the label, as exported.
    pub name: &'static str,
    /// All values. Empty if the label has an open set of values, such as routes or status codes.
    pub values: &'static [&'static str],
}

impl fmt::Display for LabelDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.name)?;
        if self.values.is_empty() { Ok(()) } else { write!(f, " ({})", self.values.join(", ")) }
    }
}

/// Label whose values form a closed set. The `label!` macro implements this trait.
pub(crate) trait LabelValue: Copy {
    /// Name and values of the label.
    const LABEL: LabelDescription;

    /// Returns the position of this value in the list of all values.
    fn index(self) -> usize;

    /// Returns this value as a string.
    fn value(self) -> &'static str {
        Self::LABEL.values[self.index()]
    }

    /// Returns the label with this value.
    fn label(self) -> Label {
        Label::from_static_parts(Self::LABEL.name, self.value())
    }
}

/// One label or several labels, each with a closed set of values.
pub(crate) trait ClosedLabels: Copy {
    /// Names and values of the labels.
    const LABELS: &'static [LabelDescription];

    /// Returns the position of this combination in the list of all combinations. The last label varies fastest.
    fn position(self) -> usize;
}

impl<A: LabelValue> ClosedLabels for A {
    const LABELS: &'static [LabelDescription] = &[A::LABEL];

    fn position(self) -> usize {
        self.index()
    }
}

impl<A: LabelValue, B: LabelValue> ClosedLabels for (A, B) {
    const LABELS: &'static [LabelDescription] = &[A::LABEL, B::LABEL];

    fn position(self) -> usize {
        self.0.index() * B::LABEL.values.len() + self.1.index()
    }
}

/// Returns all combinations of the labels' values. The last label varies fastest.
pub(crate) fn combinations(labels: &[LabelDescription]) -> Vec<Vec<Label>> {
    labels.iter().fold(vec![Vec::new()], |combinations, label| {
        let extend = |known: &Vec<Label>| -> Vec<Vec<Label>> {
            let values = label.values.iter().map(|value| Label::from_static_parts(label.name, value));
            values.map(|value| known.iter().cloned().chain([value]).collect()).collect()
        };
        combinations.iter().flat_map(extend).collect()
    })
}

/// Labels of which at least one has an open set of values.
pub(crate) trait OpenLabels {
    /// Names of the labels, with all values of each label that has a closed set.
    const LABELS: &'static [LabelDescription];

    /// Returns the labels with their values.
    fn labels(self) -> Vec<Label>;
}

/// Declares an enum whose variants are the values of a label.
macro_rules! label {
    (
        $(#[doc = $about:literal])*
        $visibility:vis enum $label:ident = $name:literal {
            $($(#[doc = $doc:literal])* $variant:ident = $value:literal,)*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $visibility enum $label {
            $($(#[doc = $doc])* $variant,)*
        }

        impl $crate::domain::metric::LabelValue for $label {
            const LABEL: $crate::domain::metric::LabelDescription =
                $crate::domain::metric::LabelDescription { name: $name, values: &[$($value),*] };

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(crate) use label;

label! {
    /// Store that a metric describes.
    pub(crate) enum StoreKind = "store" {
        Sql = "sql",
        Redis = "redis",
    }
}
