//! Traces of messages across all nodes. No span is created unless traces are exported
//! ([`telemetry`](crate::node::telemetry)).
//!
//! Several tasks and nodes process a message. The spans of a message are therefore created explicitly. The context of a
//! span ([`Trace`]) is sent with the message over the bus and into the archive queue.
//!
//! **Invariant:** attributes contain only numbers, room names and constants, never text written by a client. While
//! traces are disabled, the overhead per message is one atomic load.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value};

static TRACER: OnceLock<BoxedTracer> = OnceLock::new();

/// Sets the tracer for all spans of this process. Later calls have no effect.
pub(crate) fn start(tracer: BoxedTracer) {
    // If a process runs two nodes, the second node uses the tracer of the first node.
    let _ = TRACER.set(tracer);
}

/// Context of a sampled span, which may belong to another node. Its string form is the `traceparent` of W3C Trace
/// Context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    trace: TraceId,
    span: SpanId,
}

impl Trace {
    /// Starts a child span. Returns `None` if this process does not export traces.
    pub fn child(self, name: &'static str) -> Option<TraceSpan> {
        let tracer = TRACER.get()?;
        let parent = SpanContext::new(self.trace, self.span, TraceFlags::SAMPLED, true, TraceState::NONE);
        let parent = Context::new().with_remote_span_context(parent);
        TraceSpan::of(tracer.build_with_context(tracer.span_builder(name).with_kind(SpanKind::Internal), &parent))
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-01", self.trace, self.span)
    }
}

/// Error for a string that is not the `traceparent` of a sampled span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent of a recorded span")]
pub struct NoTrace;

impl FromStr for Trace {
    type Err = NoTrace;

    fn from_str(text: &str) -> Result<Self, NoTrace> {
        let mut parts = text.split('-');
        let (Some("00"), Some(trace), Some(span), Some(flags), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NoTrace);
        };
        let flags = u8::from_str_radix(flags, 16).map_err(|_| NoTrace)?;
        if trace.len() != 32 || span.len() != 16 || flags & 1 == 0 {
            return Err(NoTrace);
        }
        let trace = TraceId::from_hex(trace).map_err(|_| NoTrace)?;
        let span = SpanId::from_hex(span).map_err(|_| NoTrace)?;
        if trace == TraceId::INVALID || span == SpanId::INVALID { Err(NoTrace) } else { Ok(Self { trace, span }) }
    }
}

/// Span in progress. It ends when it is dropped.
#[derive(Debug)]
pub struct TraceSpan(Box<opentelemetry::global::BoxedSpan>);

impl TraceSpan {
    /// Starts a new trace. Returns `None` if traces are disabled or the new trace is not sampled.
    pub fn root(name: &'static str) -> Option<Self> {
        let tracer = TRACER.get()?;
        let builder = tracer.span_builder(name).with_kind(SpanKind::Server);
        Self::of(tracer.build_with_context(builder, &Context::new()))
    }

    fn of(span: opentelemetry::global::BoxedSpan) -> Option<Self> {
        span.span_context().is_sampled().then(|| Self(Box::new(span)))
    }

    /// Returns the context for child spans.
    pub fn trace(&self) -> Trace {
        let context = self.0.span_context();
        Trace { trace: context.trace_id(), span: context.span_id() }
    }

    /// Sets an attribute.
    pub fn note(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.set_attribute(KeyValue::new(name, value.into()));
    }

    /// Sets the status of the span to an error.
    pub fn fail(&mut self, why: &'static str) {
        self.0.set_status(Status::error(why));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn trace_is_formatted_as_traceparent() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace: Trace = text.parse().unwrap();
        assert_eq!(trace.to_string(), text);
        for not_ours in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert_eq!(not_ours.parse::<Trace>(), Err(NoTrace), "{not_ours}");
        }
    }

    #[test]
    fn traces_are_disabled_by_default() {
        assert!(TraceSpan::root("message").is_none());
        let trace: Trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
        assert!(trace.child("message").is_none());
    }

    proptest! {
        #[test]
        fn nonsense_is_no_trace(text in ".{0,80}") {
            prop_assert!(text.parse::<Trace>().is_err());
        }
    }
}
