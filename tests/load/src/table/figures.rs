//! Rows of the tables.

use crate::latency::Distribution;
use crate::report::Report;

/// Function that returns a part of a value from one report, or `None` if that part was not measured.
type Part = fn(&Report) -> Option<f64>;

/// Value of a cell: the sum of its parts.
pub(super) struct Value {
    pub(super) parts: &'static [Part],
}

/// Row of a table.
pub(super) struct Figure {
    pub(super) name: &'static str,
    /// Shapes (`--shape`) of the runs with this figure. Their values are shown side by side.
    pub(super) shapes: &'static [&'static str],
    /// Values per shape, which are shown side by side.
    pub(super) values: &'static [Value],
    pub(super) decimals: usize,
    pub(super) goal: &'static str,
}

impl Figure {
    /// Returns whether the report has a value of this figure.
    pub(super) fn includes(&self, report: &Report) -> bool {
        self.shapes.contains(&report.shape.as_str())
    }
}

const CPU: Value = Value {
    parts: &[|report| report.cpu_us("nodes"), |report| report.cpu_us("redis"), |report| report.cpu_us("mysql")],
};
const MEMORY: Value = Value { parts: &[|report| report.memory_kib("nodes")] };
const PEAK: Value = Value { parts: &[|report| report.peak_kib("nodes")] };
const P50: Value = Value { parts: &[|report| Some(delivered(report)?.p50_ms)] };
const P99: Value = Value { parts: &[|report| Some(delivered(report)?.p99_ms)] };
const ARCHIVED: Value = Value { parts: &[|report| report.archived_per_second] };

fn delivered(report: &Report) -> Option<&Distribution> {
    report.latency.iter().find(|latency| latency.name == "delivered")
}

/// Figures that `tests/bench` measures with and without `--scaling`.
pub(super) const COST: &[Figure] = &[
    Figure {
        name: "saturated, 100 rooms × 4 in flight: CPU µs per message",
        shapes: &["saturated"],
        values: &[CPU],
        decimals: 1,
        goal: "≤ 32",
    },
    Figure {
        name: "1,000 messages/s in 200 rooms: CPU µs per message",
        shapes: &["sparse"],
        values: &[CPU],
        decimals: 0,
        goal: "≤ 300",
    },
    Figure {
        name: "the same: p50 / p99 ms", shapes: &["sparse"], values: &[P50, P99], decimals: 2, goal: "≤ 0.3 / 2"
    },
    Figure {
        name: "fan-out 1 → 1,000: CPU µs per delivery",
        shapes: &["fanout"],
        values: &[CPU],
        decimals: 1,
        goal: "≤ 8",
    },
    Figure {
        name: "visitor with a room: KiB settled / peak",
        shapes: &["idle"],
        values: &[MEMORY, PEAK],
        decimals: 1,
        goal: "≤ 4 / 8",
    },
    Figure {
        name: "visitor with two sockets: KiB settled / peak",
        shapes: &["idle-status"],
        values: &[MEMORY, PEAK],
        decimals: 1,
        goal: "",
    },
    Figure {
        name: "first visit, `POST /api/chat/`: CPU µs",
        shapes: &["rooms"],
        values: &[CPU],
        decimals: 0,
        goal: "≤ 300",
    },
    Figure {
        name: "first visit, first join: CPU µs", shapes: &["idle"], values: &[CPU], decimals: 0, goal: "≤ 150"
    },
    Figure {
        name: "return visit, 50 messages: CPU µs", shapes: &["join"], values: &[CPU], decimals: 0, goal: "≤ 150"
    },
];

/// Figures of `tests/bench --scaling`.
pub(super) const SCALING: &[Figure] = &[
    Figure {
        name: "100 / 1,000 / 10,000 rooms, 400 in flight: CPU µs per message",
        shapes: &["rooms-100", "rooms-1000", "rooms-10000"],
        values: &[CPU],
        decimals: 1,
        goal: "± 20 %",
    },
    Figure {
        name: "2 / 4 / 8 nodes, 400 in flight: CPU µs per message",
        shapes: &["nodes-2", "nodes-4", "nodes-8"],
        values: &[CPU],
        decimals: 1,
        goal: "≤ + 15 %",
    },
    Figure {
        name: "2 / 4 / 8 nodes, 1,000 messages/s: CPU µs per message",
        shapes: &["sparse-nodes-2", "sparse-nodes-4", "sparse-nodes-8"],
        values: &[CPU],
        decimals: 0,
        goal: "",
    },
    Figure {
        name: "18,000 sockets per node: KiB per visitor settled / peak",
        shapes: &["idle-18000"],
        values: &[MEMORY, PEAK],
        decimals: 1,
        goal: "≤ 4 / 8",
    },
    Figure {
        name: "backlog of 120,000 messages: rows archived per second",
        shapes: &["backlog"],
        values: &[ARCHIVED],
        decimals: 0,
        goal: "≥ 20,000",
    },
    Figure {
        name: "backlog, 1,000 messages/s meanwhile: p50 / p99 ms",
        shapes: &["backlog"],
        values: &[P50, P99],
        decimals: 2,
        goal: "p99 ≤ 10",
    },
];
