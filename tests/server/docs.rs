//! What the server says of itself, held against the running server by a tool that knows nothing else of it.

use std::path::Path;
use std::process::Command;

use crate::support::{Host, Node, TestApp, Topology};

/// Sends what the document allows and what it does not, and fails at an answer that the document does not have: a status,
/// a type, a header, a body; at a 5xx, and at nonsense that is taken.
fn hold_against_its_document(node: &Node, host: &Host, which: &[&str]) {
    let tools = std::env::var("PINTALK_TEST_SCHEMATHESIS").expect("schemathesis, as tests/run sees to");
    let folder = tempfile::tempdir().expect("a folder");
    let done = Command::new("python3")
        .args(["-m", "schemathesis.cli", "--no-color", "run", &node.url("/api/openapi.json")])
        .args(["--header", &format!("Authorization: Bearer {}", host.token)])
        .args(["--header", &format!("X-PinTalk-Access-Key: {}", host.account.access_key)])
        .args(["--header", &format!("X-PinTalk-Secret-Key: {}", host.account.secret_key)])
        // A schema cannot say what is a host name, or which step of signing up comes first.
        .args(["--exclude-checks", "positive_data_acceptance", "--max-examples", "25", "--generation-deterministic"])
        .args(which)
        .env("PYTHONPATH", Path::new(&tools))
        .current_dir(folder.path())
        .output()
        .expect("python3, as tests/run sees to");
    let told = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{told}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(told.contains(" generated, "), "it found nothing to do: {told}");
}

/// They end what the others need; and with a webhook, what the others do would be told to whatever host was made up.
const LAST: [&str; 3] = ["setWebhook", "rotateKeys", "logOut"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_missing_in_the_document() {
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
