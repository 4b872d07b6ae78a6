//! Tests several consoles of the same host, including hidden ones.

use serde_json::json;

use crate::browser::Browser;
use crate::people::{Guest, Host};
use crate::site::Site;
use crate::talk::no_complaints;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consoles_of_one_host_stay_in_sync_and_a_hidden_one_counts_unread_messages() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let other = Host { page: browser.open_page().await };
    other.page.visit(&site.nodes[0].url("/console/")).await;
    other.is_online().await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.send_text("one").await;
    let unread = "document.querySelector('.rooms .count')";
    other.page.until("both have it", unread).await;

    // A change in one tab appears in the other tabs immediately.
    host.choose_first().await;
    other.page.until("it was read there", &format!("!{unread}")).await;
    host.press("Pin").await;
    other.page.until("it was pinned there", "document.querySelector('.rooms .pinned')").await;

    // The tab with the open room is hidden, but it has not reported that the host is away. The server therefore counts
    // messages in this room as read, although the host has not seen them.
    let hide = "window.hidden = true; Object.defineProperty(document, 'hidden', { get: () => window.hidden }); \
        const { fetch } = window; window.read = 0; \
        window.fetch = async (path, sent) => { \
          const answer = await fetch(path, sent); const read = answer.text.bind(answer); \
          answer.text = async () => { const text = await read(); const page = JSON.parse(text || 'null'); \
            if (page?.results?.[0]?.latestMsg === 'two' && page.results[0].unread === 0) setTimeout(() => window.read++); \
            return text; }; \
          return answer; }";
    host.page.run(hide, &json!([])).await;
    guest.send_text("two").await;
    host.page.until("the list was read again", "window.read").await;
    assert_eq!(host.page.run("return document.title", &json!([])).await, "(1) PinTalk console");
    let look = "window.hidden = false; document.dispatchEvent(new Event('visibilitychange'))";
    host.page.run(look, &json!([])).await;
    host.page.until("a visible page marks it as read", "document.title === 'PinTalk console'").await;

    // Without messages between tabs, the two consoles behave as in different browsers. A console then updates when it
    // becomes visible or focused.
    host.page.run("BroadcastChannel.prototype.postMessage = () => {}", &json!([])).await;
    host.press("Close").await;
    host.confirm().await;
    host.page.until("it is closed", "document.querySelector('.writing').hidden").await;
    other.page.run("dispatchEvent(new Event('focus'))", &json!([])).await;
    other.page.until("it is closed there", "!document.querySelector('.rooms .room')").await;

    // A link opens a room that is not in the list.
    let room = host.page.run("return location.hash", &json!([])).await;
    other.page.run("location.hash = arguments[0]", &json!([room])).await;
    other.sees(&["they: one", "they: two"]).await;
    no_complaints(&browser).await;

    // Signing out in one tab also signs out the other tabs. They show a message.
    host.press("Sign out").await;
    let says = "document.querySelector('.signin')?.textContent.includes('You were signed out')";
    other.page.until("the other tab explains the sign-in page", says).await;
    site.close().await;
}
