//! A host with a thousand rooms, and a room with ten thousand messages: the console stays light.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::browser::Browser;
use crate::people::Host;
use crate::site::{Site, keep_picture};

const ROOMS: usize = 1_000;
const MESSAGES: usize = 10_000;
/// More elements than this would be all of them.
const MAX_ELEMENTS: u64 = 3_000;
/// Longer than this nothing may hold up the page: a person would feel it as a jerk. (A debug build serves it, but the page is
/// what it is.)
const MAX_STUTTER_MS: f64 = 200.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_rooms_and_ten_thousand_messages_are_no_burden() {
    let site = Site::embedded_with(&["--limits", "off"]).await;
    let http = reqwest::Client::new();
    let opening = futures_util::stream::iter(0..ROOMS).map(|_| open_room(&site, &http)).buffer_unordered(8);
    let rooms: Vec<Value> = opening.collect().await;
    let room = &rooms[0];
    talk(&site, room["name"].as_str().expect("a name")).await;

    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.first_page().await, &site.nodes[0].url("/console/")).await;
    let watch = "window.slow = []; new PerformanceObserver((list) => window.slow.push(...list.getEntries().map((one) => \
                 Math.round(one.duration)))).observe({ type: 'longtask', buffered: true })";
    host.page.run(watch, &json!([])).await;
    let by_steps = "const [selector, up] = arguments; const pane = document.querySelector(selector); \
        pane.scrollTop += up * pane.clientHeight; return [document.querySelectorAll('*').length, pane.scrollTop, pane.scrollHeight]";

    // To the last room: the list is as long as all of them, and most are no elements.
    let whole = format!("document.querySelector('.rooms ul').offsetHeight === {ROOMS} * 68");
    crate::eventually("the last room is there", crate::PATIENCE, async || {
        let at = host.page.run(by_steps, &json!([".rooms", 20])).await;
        (at[0].as_u64()? < MAX_ELEMENTS).then_some(())?;
        host.page.run(&format!("return {whole}"), &json!([])).await.as_bool()?.then_some(())
    })
    .await;
    host.page.run("document.querySelector('.rooms').scrollTop = 0", &json!([])).await;
    host.choose_first().await;
    keep_picture(&host.page, "console-many").await;

    // Up to the first message.
    let first = "document.querySelector('.talk .bubble')?.textContent === 'message 1'";
    crate::eventually("the first message is there", crate::PATIENCE, async || {
        let at = host.page.run(by_steps, &json!([".talk", -3])).await;
        (at[0].as_u64()? < MAX_ELEMENTS).then_some(())?;
        host.page.run(&format!("return {first}"), &json!([])).await.as_bool()?.then_some(())
    })
    .await;
    // And while it is that long, it talks.
    host.page.run("document.querySelector('.talk').scrollTop = 1e9; window.slow.length = 0", &json!([])).await;
    host.say("the next").await;
    let last = "[...document.querySelectorAll('.talk li:not(.sending) .bubble')].at(-1)?.textContent === 'the next'";
    host.page.until("what he says is there", last).await;
    let slow = host.page.run("return Math.max(0, ...window.slow)", &json!([])).await.as_f64().expect("a number");
    assert!(slow < MAX_STUTTER_MS, "the page stood still for {slow} ms");
    site.close().await;
}

async fn open_room(site: &Site, http: &reqwest::Client) -> Value {
    let request = http.post(site.nodes[0].url("/api/chat/"));
    let keys =
        request.header("X-PinTalk-Access-Key", &site.access_key).header("X-PinTalk-Secret-Key", &site.secret_key);
    keys.send().await.expect("an answer").json().await.expect("JSON")
}

/// A guest says all there is to say, as fast as it goes.
async fn talk(site: &Site, room: &str) {
    let mut request =
        format!("ws://{}/ws/chat/{room}/", site.nodes[0].address).into_client_request().expect("a request");
    request.headers_mut().insert("Origin", site.shop.url().trim_end_matches('/').parse().expect("a header"));
    let (socket, _) = tokio_tungstenite::connect_async(request).await.expect("an upgrade");
    let (mut writes, mut reads) = socket.split();
    let saying = async {
        for number in 1..=MESSAGES {
            let text = format!("message {number}");
            let frame = json!({"type": "chat_message", "message": text, "datetime": "2023-03-23T08:15:07"});
            writes.send(Message::text(frame.to_string())).await.expect("the socket takes a frame");
        }
    };
    let hearing = async {
        let mut heard = 0;
        while heard < MESSAGES {
            let frame = reads.next().await.expect("the socket is open").expect("a frame");
            heard += usize::from(frame.is_text());
        }
    };
    tokio::join!(saying, hearing);
}
