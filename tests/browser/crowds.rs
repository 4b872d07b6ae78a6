//! Tests that the console is responsive with a thousand rooms and with a room of ten thousand messages.

use serde_json::json;

use crate::browser::{Browser, Page};
use crate::people::{Guest, Host};
use crate::site::Site;

const ROOMS: usize = 1_000;
const MESSAGES: usize = 10_000;
/// Maximum number of elements in the page. A page that renders all rooms or all messages has more elements.
const MAX_ELEMENTS: u64 = 3_000;
/// Maximum duration of a task in milliseconds. A task usually takes less than 50 ms, but rendering all rooms or all
/// messages takes seconds.
const MAX_STUTTER_MS: f64 = 500.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn console_is_responsive_with_a_thousand_rooms_and_ten_thousand_messages() {
    let mut site = Site::embedded().await;
    site.add_rooms(ROOMS, MESSAGES).await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.first_page().await, &site.nodes[0].url("/console/")).await;
    let watch = "window.slow = []; new PerformanceObserver((list) => window.slow.push(...list.getEntries().map((one) => \
                 Math.round(one.duration)))).observe({ type: 'longtask', buffered: true })";
    host.page.run(watch, &json!([])).await;
    // Scrolls down to the last room. The list is as high as all rooms together, but only some of its rows are elements.
    scroll(&host.page, ".rooms", 20, &format!("document.querySelector('.rooms ul').offsetHeight === {ROOMS} * 68"))
        .await;
    host.page.run("document.querySelector('.rooms').scrollTop = 0", &json!([])).await;
    host.choose_first().await;

    // Scrolls up to the first message.
    scroll(&host.page, ".talk", -3, "document.querySelector('.talk .bubble')?.textContent === 'message 1'").await;
    // The console scrolls to a message that it sends, regardless of the previous position and the height of the
    // message.
    let high = "line\n".repeat(30);
    host.paste(&high).await;
    let last = "const pane = document.querySelector('.talk'); const last = [...pane.querySelectorAll('li:not(.sending) .bubble')].at(-1); \
        return last?.textContent.startsWith('line') && pane.scrollHeight - pane.scrollTop - pane.clientHeight < 60 && \
        document.querySelector('.newer').hidden";
    host.page.until("the sent message is visible", &format!("(() => {{ {last} }})()")).await;
    // The test blocks the page once, to check that the observer reports long tasks.
    let block = "const [ms] = arguments; \
        requestAnimationFrame(() => { const end = performance.now() + ms; while (performance.now() < end); })";
    host.page.run(block, &json!([2.0 * MAX_STUTTER_MS])).await;
    let blocked = "window.slow.some((ms) => ms >= arguments[0])";
    host.page.until_with("a page that stands still is noticed", blocked, &json!([2.0 * MAX_STUTTER_MS])).await;
    let slow = host.page.run("return window.slow", &json!([])).await;
    let stutters = slow.as_array().expect("times").iter().filter(|ms| ms.as_f64() >= Some(MAX_STUTTER_MS)).count();
    assert_eq!(stutters, 1, "the page stood still: {slow}");
    site.close().await;
}

/// Scrolls by `screens` screens per frame until the expression `done` is true. Checks that the number of elements
/// remains small.
async fn scroll(page: &Page, pane: &str, screens: i32, done: &str) {
    let script = format!(
        "const pane = document.querySelector('{pane}'); let most = 0; return (async () => {{ while (!({done})) {{ \
         pane.scrollTop += {screens} * pane.clientHeight; most = Math.max(most, document.querySelectorAll('*').length); \
         await new Promise(requestAnimationFrame); }} return most; }})()"
    );
    let most = page.run(&script, &json!([])).await.as_u64().expect("a number");
    assert!((1..MAX_ELEMENTS).contains(&most), "{most} elements in {pane}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guest_who_scrolls_up_reaches_the_first_message() {
    const MANY: usize = 170;
    let site = Site::embedded_with(&["--limits", "off"]).await;
    let browser = Browser::start("en-US").await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.send_text("message 0").await;
    guest.sees(&["me: message 0"]).await;
    let name = "return JSON.parse(Object.entries(localStorage).find(([key]) => key.endsWith(':room'))[1]).name";
    let room = guest.page.run(name, &json!([])).await;
    site.write(room.as_str().expect("a name"), MANY).await;
    let pane = Guest::at(".talk");
    let newest = format!("{pane}?.textContent.includes('message {MANY}')");
    guest.page.until("the newest is in sight", &newest).await;
    guest.page.reload().await;
    guest.page.until("and after a reload", &newest).await;
    let shown = guest.messages().await.len();
    assert!(shown < MANY, "all {shown} at once");
    let up = format!(
        "(({{ scrollTop }}, pane) => (pane.scrollTop = scrollTop - 500, pane.textContent.includes('message 0')))({pane}, {pane})"
    );
    guest.page.until("the first is there", &up).await;
    let texts: Vec<String> = guest.messages().await.into_iter().map(|(_, _, text)| text).collect();
    let wanted: Vec<String> = (0..=MANY).map(|number| format!("message {number}")).collect();
    assert_eq!(texts, wanted, "each once, in order");
    site.close().await;
}
