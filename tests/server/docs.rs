//! Checks the OpenAPI document against the running server with Schemathesis.

use std::path::Path;
use std::process::Command;

use crate::support::{Host, Node, TestApp, Topology};

/// Sends valid and invalid requests that Schemathesis generates from the document.
///
/// Fails if the document does not describe a response (its status, type, headers or body), if a status is 5xx, or if
/// the server accepts an invalid request.
fn hold_against_its_document(node: &Node, host: &Host, which: &[&str]) {
    let tools = std::env::var("PINTALK_TEST_SCHEMATHESIS").expect("schemathesis, as tests/run sees to");
    let folder = tempfile::tempdir().expect("a folder");
    let done = Command::new("python3")
        .args(["-m", "schemathesis.cli", "--no-color", "run", &node.url("/api/openapi.json")])
        .args(["--header", &format!("Authorization: Bearer {}", host.token)])
        .args(["--header", &format!("X-PinTalk-Access-Key: {}", host.account.access_key)])
        .args(["--header", &format!("X-PinTalk-Secret-Key: {}", host.account.secret_key)])
        // `positive_data_acceptance` is excluded: a schema cannot express which host names are valid or the order of
        // the sign-up steps.
        .args(["--exclude-checks", "positive_data_acceptance", "--max-examples", "25", "--generation-deterministic"])
        .args(which)
        .env("PYTHONPATH", Path::new(&tools))
        .current_dir(folder.path())
        .output()
        .expect("python3, as tests/run sees to");
    let output = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{output}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(output.contains(" generated, "), "it found nothing to do: {output}");
}

/// Operations that are tested last. `rotateKeys` and `logOut` invalidate credentials that the other operations need.
/// After `setWebhook`, the events of the other operations would be sent to a generated host name.
const LAST: [&str; 3] = ["setWebhook", "rotateKeys", "logOut"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_response_is_described_in_the_document() {
    let app = TestApp::start_with(Topology::Embedded, &["--limits", "off"]).await;
    let host = app.host("dev@shop.example").await;
    let (node, _) = app.two();
    tokio::task::block_in_place(|| {
        let all = LAST.iter().flat_map(|id| ["--exclude-operation-id", id]).collect::<Vec<_>>();
        hold_against_its_document(node, &host, &all);
        for id in LAST {
            hold_against_its_document(node, &host, &["--include-operation-id", id]);
        }
    });
    app.stop().await;
}
