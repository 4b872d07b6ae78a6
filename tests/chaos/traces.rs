//! Tests that one message produces one trace, to which all nodes that process the message contribute.

use std::collections::HashSet;
use std::net::TcpListener;
use std::time::Duration;

use crate::collector::{Collector, Span};
use crate::eventually;
use crate::setup::{Plan, Setup};

/// Maximum time until all spans of a message have been exported. Nodes export spans every five seconds.
const EXPORTED: Duration = Duration::from_secs(30);

/// Returns the spans named `name` that are children of the span `first`.
fn parts<'a>(spans: &'a [Span], first: &Span, name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.trace == first.trace && span.parent == first.id && span.name == name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_covers_a_message_from_acceptance_to_delivery_and_sql() {
    let collector = Collector::start().await;
    let endpoint = format!("http://{}", collector.address);
    let flags = ["--otlp-endpoint", &endpoint, "--trace-ratio", "1"].map(str::to_owned).to_vec();
    let plan = Plan { nodes: 2, rooms: 2, guests: 2, flags, ..Plan::default() };
    let setup = Setup::set("a_message_is_one_trace", plan).await;
    let whole = eventually("a message's trace is whole", EXPORTED, async || {
        let spans = collector.spans();
        let mut first = spans.iter().filter(|span| span.name == "message.accept");
        let is_whole = |first: &&Span| {
            let accepts = parts(&spans, first, "broker.accept");
            let delivers = parts(&spans, first, "message.deliver");
            let receivers = |span: &&Span| span.fact("pintalk.receivers").is_some_and(|count| count != "0");
            let nodes: HashSet<&str> =
                delivers.iter().filter(|span| receivers(span)).map(|span| span.sent_by()).collect();
            accepts.len() == 1 && nodes.len() == 2 && parts(&spans, first, "archive.commit").len() == 1
        };
        first.find(is_whole).cloned()
    })
    .await;
    let spans = collector.spans();
    assert!(whole.parent.is_empty(), "it begins the trace");
    for name in ["broker.accept", "message.deliver", "archive.commit"] {
        for span in parts(&spans, &whole, name) {
            // All nodes run on one machine and use the same clock, so their times are comparable.
            assert!(span.began >= whole.began && span.ended >= span.began, "{span:?}");
        }
    }
    let deliver = parts(&spans, &whole, "message.deliver")[0];
    for fact in ["pintalk.room", "pintalk.seq"] {
        assert!(whole.fact(fact).is_some() && whole.fact(fact) == deliver.fact(fact), "{fact}");
    }
    assert!(setup.rooms.iter().any(|room| whole.fact("pintalk.room") == Some(&room.name)));
    assert!(!format!("{spans:?}").contains("가가"), "what people write is in no span");
    setup.finish(|_, figures| figures.note("spans", spans.len())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unavailable_collector_is_logged_once_and_costs_no_message() {
    let unused = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let endpoint = format!("http://{unused}");
    let flags = ["--otlp-endpoint", &endpoint, "--trace-ratio", "1"].map(str::to_owned).to_vec();
    let setup = Setup::set("unavailable_collector", Plan { nodes: 1, rooms: 2, flags, ..Plan::default() }).await;
    let node = &setup.nodes[0];
    eventually("parcels are lost", EXPORTED, async || {
        let text = setup.http.get(node.url("/metrics")).send().await.ok()?.text().await.ok()?;
        let lost =
            text.lines().find_map(|line| line.strip_prefix("pintalk_trace_exports_total{outcome=\"failed\"} "))?;
        (lost.parse::<f64>().ok()? >= 2.0).then_some(())
    })
    .await;
    assert_eq!(node.logged().matches("trace collector unavailable").count(), 1);
    setup.finish(|_, _| {}).await;
}
