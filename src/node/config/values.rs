//! Types of option values. A parse error describes the expected format.

mod networks;
mod spans;
mod urls;

use std::str::FromStr;

pub use networks::Networks;
pub use spans::{KeyGrace, LongSpan, Span, SpanOrOff};
pub use urls::{CookieDomain, OtlpEndpoint, PublicUrl, WebOrigin};

/// Error: an option value has the wrong format. The message is printed after "invalid value …: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(String);

impl InvalidValue {
    pub(in crate::node::config) fn new(expected: impl Into<String>) -> Self {
        Self(expected.into())
    }
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// Enabled.
    #[value(aliases = ["true", "yes", "1"])]
    On,
    /// Disabled.
    #[value(aliases = ["false", "no", "0"])]
    Off,
}

impl Switch {
    /// Returns whether the switch is on.
    pub fn is_on(self) -> bool {
        self == Switch::On
    }
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text for a terminal.
    Text,
    /// One JSON object per line, for a log collector.
    Json,
}

/// Fraction from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(pub f64);

impl FromStr for Ratio {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let part = text.parse::<f64>().ok().filter(|part| (0.0..=1.0).contains(part));
        part.map(Self).ok_or_else(|| InvalidValue::new("expected a number from 0 to 1"))
    }
}
