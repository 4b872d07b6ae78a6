//! Tests what guests and hosts see while nodes and stores are unavailable.

use serde_json::json;

use crate::browser::Browser;
use crate::people::{Guest, Host};
use crate::site::{Site, keep_picture};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_duplicated_across_a_reload_a_killed_node_and_a_restart_of_redis() {
    let mut site = Site::cluster().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.other().url("/console/")).await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.send_text("before").await;
    host.choose_first().await;
    host.send_text("hello").await;
    guest.sees(&["me: before", "they: hello"]).await;

    // The guest's node is killed. A message sent now is shown as waiting, and it survives a reload.
    site.nodes[0].kill();
    guest.send_text("while the node is away").await;
    guest.sees(&["me: before", "they: hello", "sending me: while the node is away"]).await;
    host.send_text("are you still there?").await;
    // The shop serves the page, but the killed node serves the widget. The widget therefore appears after the node has
    // restarted.
    guest.page.reload().await;
    site.nodes[0].start_again();
    site.nodes[0].ready(&reqwest::Client::new()).await;
    guest.page.reload().await;
    let mut seen = vec!["me: before", "they: hello", "they: are you still there?", "me: while the node is away"];
    guest.sees(&seen).await;

    // Redis is killed and restarted. Messages sent during the outage arrive exactly once.
    let redis = site.redis.as_mut().expect("a Redis");
    redis.kill_one(0);
    guest.send_text("while Redis is away").await;
    host.send_text("the host, too").await;
    redis.restart_one(0);
    let arrived =
        "document.querySelectorAll('.talk .bubble').length === 6 && !document.querySelector('.talk .sending')";
    host.page.until("both arrive", arrived).await;
    let order: Vec<String> = host.messages().await.into_iter().map(|(_, _, text)| text).collect();
    if order[4] == "while Redis is away" {
        seen.extend(["me: while Redis is away", "they: the host, too"]);
    } else {
        seen.extend(["they: the host, too", "me: while Redis is away"]);
    }
    guest.sees(&seen).await;

    // The host's node is killed. The console reconnects without a reload.
    site.nodes[1].kill();
    host.page.until("the host is shown offline", "!document.querySelector('.me .dot.on')").await;
    host.send_text("from a page that was never reloaded").await;
    guest.send_text("and so is this").await;
    site.nodes[1].start_again();
    host.is_online().await;
    let all = "document.querySelectorAll('.talk .bubble').length === 8 && !document.querySelector('.talk .sending')";
    host.page.until("all is there", all).await;
    let texts =
        |messages: Vec<(bool, String, String)>| messages.into_iter().map(|(_, _, text)| text).collect::<Vec<_>>();
    let on_desk = texts(host.messages().await);
    guest
        .page
        .until("the guest has all", &format!("{}.querySelectorAll('.bubble').length === 8", Guest::at(".talk")))
        .await;
    assert_eq!(texts(guest.messages().await), on_desk, "both see the same, in the same order");
    guest.page.reload().await;
    guest
        .page
        .until("and after a reload", &format!("{}?.querySelectorAll('.bubble').length === 8", Guest::at(".talk")))
        .await;
    assert_eq!(texts(guest.messages().await), on_desk);
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsent_message_is_shown_as_failed_and_sent_on_retry() {
    let mut site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.send_text("before").await;
    guest.sees(&["me: before"]).await;
    site.nodes[0].kill();
    guest.sees_notice("Reconnecting").await;
    guest.send_text("into the void").await;
    guest.sees(&["me: before", "sending me: into the void"]).await;
    // The page's clock advances by 30 seconds.
    guest.page.run("const now = Date.now; Date.now = () => now() + 30000", &json!([])).await;
    guest.sees(&["me: before", "failed me: into the void"]).await;
    keep_picture(&guest.page, "widget-failed").await;
    let retry = Guest::at(".failed .meta button");
    guest.page.until("it can be tried again", &format!("{retry}?.textContent === 'Try again'")).await;
    site.nodes[0].start_again();
    site.nodes[0].ready(&reqwest::Client::new()).await;
    guest.page.run(&format!("{retry}?.click()"), &json!([])).await;
    guest.sees(&["me: before", "me: into the void"]).await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn widget_reconnects_after_the_requested_time_or_with_random_backoff() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    // The page's random numbers become constant. The next four sockets close immediately, and the fifth is a real
    // socket.
    let ends = "window.waits = []; Math.random = () => 0.5; \
        addEventListener('pintalk', ({ detail }) => detail.type === 'waiting' && window.waits.push(detail.ms)); \
        const ends = [[1012, 'retry in 123 ms'], [1006, ''], [1006, ''], [1013, 'retry in 45 ms']]; \
        const Real = WebSocket; window.urls = []; \
        window.WebSocket = function (url) { const end = ends.shift(); \
          if (!end) { window.urls.push(`${url}`); return (window.socket = new Real(url)); } \
          queueMicrotask(() => this.onclose({ code: end[0], reason: end[1] })); this.close = () => {}; };";
    guest.page.run(ends, &json!([])).await;
    guest.send_text("at last").await;
    guest.sees(&["me: at last"]).await;
    // The maximum wait is 500 ms for the first attempt and doubles with each attempt. Jitter reduces it by up to half. A
    // delay in the close reason takes precedence.
    let waits = guest.page.run("return window.waits", &json!([])).await;
    assert_eq!(waits, json!([123, 750, 1500, 45]));
    // On reconnect, the widget requests only the messages after the last one that it received.
    guest.page.run("window.socket.onclose({ code: 1006, reason: '' })", &json!([])).await;
    guest
        .page
        .until(
            "the widget reconnects after its last message",
            "window.urls.length === 2 && window.urls[1].endsWith('&after=1')",
        )
        .await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_token_is_renewed_without_an_error() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.first_page().await, &site.nodes[0].url("/console/")).await;
    // The next request for the settings and the next socket contain a token that the server rejects.
    let spoil = "const { fetch, WebSocket } = window; window.spoilt = { call: 1, socket: 1 }; \
        window.fetch = (path, sent) => { \
          if (path.includes('/configs/') && window.spoilt.call-- > 0) sent.headers.Authorization = 'Bearer spoilt'; \
          return fetch(path, sent); }; \
        window.WebSocket = class extends WebSocket { constructor(url) { const at = new URL(url); \
          if (window.spoilt.socket-- > 0) at.searchParams.set('token', 'spoilt'); super(at); } };";
    host.page.run(spoil, &json!([])).await;
    host.press("Settings").await;
    let online = "document.querySelector('.switch input:not(:disabled)')";
    host.page.click(online).await;
    host.page.until("the host is offline", "!document.querySelector('.me .dot.on')").await;
    host.page.click(online).await;
    host.is_online().await;
    host.page.until("both were spoilt", "window.spoilt.call <= 0 && window.spoilt.socket <= 0").await;
    let log = browser.log().await;
    assert!(
        log.iter().any(|line| line.contains("401") && !line.contains("/refresh/")),
        "nothing was refused: {log:#?}"
    );
    // The page explains why the server cannot be reached. When it can be reached again, the page resumes the login.
    let block = async |urls: serde_json::Value| {
        host.page.chromium("Network.setBlockedURLs", json!({"urls": urls})).await;
    };
    host.page.chromium("Network.enable", json!({})).await;
    block(json!(["*/token/refresh/*"])).await;
    host.page.reload().await;
    let says = "document.querySelector('.signin')?.textContent.includes('cannot be reached')";
    host.page.until("the problem is explained", says).await;
    keep_picture(&host.page, "console-waiting").await;
    block(json!([])).await;
    host.is_online().await;

    // A failed sign-out is reported. A successful sign-out is final, even if the server rejects the token.
    block(json!(["*/logout/*"])).await;
    host.press("Sign out").await;
    let says = "document.querySelector('#toasts').textContent.includes('still signed in')";
    host.page.until("the failure is shown", says).await;
    block(json!([])).await;
    let spoil = "const { fetch } = window; window.fetch = (path, sent) => { if (path.includes('/logout/') && !window.spoilt) \
        { window.spoilt = true; sent.headers.Authorization = 'Bearer spoilt'; } return fetch(path, sent); }";
    host.page.run(spoil, &json!([])).await;
    host.press("Sign out").await;
    let door = "document.querySelector('#field-email')";
    host.page.until("the sign-in page is shown after another attempt", &format!("window.spoilt && {door}")).await;
    host.page.reload().await;
    host.page.until("a reload does not resume the login", door).await;
    site.close().await;
}
