//! Metrics of TCP connections and HTTP requests.

use metrics::{Counter, Histogram, Label};

use crate::domain::metric::{Family, Gauge, LabelDescription, OpenFamily, OpenLabels, label, metric_set};

metric_set! {
    /// Metrics of TCP connections.
    pub(crate) struct TcpMetrics {
        /// Open TCP connections, WebSockets included.
        connections: Gauge = "pintalk_tcp_connections", Count;
        /// Connections refused above the limit of an address (`address`) or of the node's file descriptors (`node`);
        /// `shed`: idle connections closed to admit new ones.
        refused: Family<Counter, RefusalReason> = "pintalk_tcp_connections_refused_total", Count;
        /// Connections closed because the peer sent a request's head (`head`) or read a response (`write`) too
        /// slowly.
        timeouts: Family<Counter, TimedPhase> = "pintalk_tcp_timeouts_total", Count;
    }
}

label! {
    /// Reason why a TCP connection was refused or closed.
    pub(crate) enum RefusalReason = "reason" {
        Address = "address",
        Node = "node",
        Shed = "shed",
    }
}

label! {
    /// Phase of a request in which a peer was too slow.
    pub(crate) enum TimedPhase = "phase" {
        Head = "head",
        Write = "write",
    }
}

metric_set! {
    /// Metrics of HTTP requests.
    pub(crate) struct HttpMetrics {
        /// Duration of HTTP requests.
        duration: OpenFamily<Histogram, CallLabels> = "pintalk_http_request_duration_seconds", Seconds;
        /// HTTP requests; `route` is the route's template, with one value for unknown paths.
        requests: OpenFamily<Counter, CallLabels> = "pintalk_http_requests_total", Count;
    }
}

/// Labels of a request. The number of combinations is bounded, because the labels contain only route templates, known
/// methods and statuses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallLabels {
    pub(crate) route: &'static str,
    pub(crate) method: &'static str,
    pub(crate) status: http::StatusCode,
}

impl OpenLabels for CallLabels {
    const LABELS: &'static [LabelDescription] = &[
        LabelDescription { name: "route", values: &[] },
        LabelDescription { name: "method", values: &[] },
        LabelDescription { name: "status", values: &[] },
    ];

    fn labels(self) -> Vec<Label> {
        let Self { route, method, status } = self;
        let status = Label::new("status", status.as_str().to_owned());
        vec![Label::from_static_parts("route", route), Label::from_static_parts("method", method), status]
    }
}
