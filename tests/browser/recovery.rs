//! Tests the console behind captive portals, in hidden tabs and after the device has slept. It must name the problem
//! and recover without a reload.

use std::time::Duration;

use serde_json::json;

use crate::browser::Browser;
use crate::device::{FORGET_FRAMES, RECORD_FRAMES, has_answered};
use crate::link::{Flow, Link, within};
use crate::people::{Guest, Host};
use crate::site::{Site, keep_picture};

/// Page with which a captive portal answers every request.
const PORTAL: &str = "<!doctype html><title>Welcome</title><h1>Sign in to the hotel's network</h1>";

/// Script that answers every request of the page with a portal's page while `window.isPortal` is true.
const PORTAL_FETCH: &str = "window.isPortal = true; { const { fetch } = window; window.fetch = (...call) => window.isPortal \
    ? Promise.resolve(new Response('<!doctype html><title>Welcome</title>', { headers: { 'Content-Type': 'text/html' } })) : fetch(...call) }";

/// JavaScript expression that is true if the page names the network as the problem.
const NAMES_NETWORK: &str = "/network|internet|portal|reach|connection/i.test(document.body.innerText)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn console_behind_a_captive_portal_names_the_problem_and_recovers() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let link = Link::before(site.nodes[0].address).await;
    let host = Host::sign_in(browser.open_page().await, &link.url("/console/")).await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.send_text("one").await;
    host.choose_first().await;
    host.sees(&["they: one"]).await;
    link.set_portal(Some(PORTAL));
    host.page.until("the host is offline", "!document.querySelector('.me .dot.on')").await;
    host.page.run("dispatchEvent(new Event('online'))", &json!([])).await;
    host.press("Settings").await;
    host.page.until("the problem is named", NAMES_NETWORK).await;
    keep_picture(&host.page, "console-portal").await;
    guest.send_text("two").await;
    link.set_portal(None);
    within("the host is online", Duration::from_secs(35), host.is_online()).await;
    host.choose_first().await;
    host.sees(&["they: one", "they: two"]).await;
    host.send_text("three").await;
    guest.sees(&["me: one", "me: two", "they: three"]).await;

    // A portal answers the requests of a page that is loading. The login is kept, and no sign-in page is shown.
    let page = browser.open_page().await;
    page.before_load(PORTAL_FETCH).await;
    page.visit(&link.url("/console/")).await;
    page.until("the problem is named", NAMES_NETWORK).await;
    page.run("window.isPortal = false; dispatchEvent(new Event('online'))", &json!([])).await;
    let other = Host { page };
    within("the host is online", Duration::from_secs(35), other.is_online()).await;

    // A portal answers the request to sign out.
    other.page.run("window.isPortal = true", &json!([])).await;
    other.press("Sign out").await;
    other.page.until("it is named there as well", NAMES_NETWORK).await;
    let thrown: Vec<String> = browser.log().await.into_iter().filter(|line| line.contains("Uncaught")).collect();
    assert!(thrown.is_empty(), "{thrown:#?}");
    site.close().await;
}

/// Makes a page hidden or visible, as a switch between tabs does.
async fn set_hidden(host: &Host, hidden: bool) {
    let script = "const [hidden] = arguments; Object.defineProperty(document, 'hidden', { get: () => hidden, configurable: true }); \
        Object.defineProperty(document, 'visibilityState', { get: () => (hidden ? 'hidden' : 'visible'), configurable: true }); \
        document.dispatchEvent(new Event('visibilitychange'))";
    host.page.run(script, &json!([hidden])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn console_recovers_without_a_reload_after_a_hidden_tab_and_a_night_of_sleep() {
    let mut site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let link = Link::before(site.nodes[0].address).await;
    let page = browser.open_page().await;
    page.before_load(RECORD_FRAMES).await;
    let host = Host::sign_in(page, &link.url("/console/")).await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.send_text("one").await;
    host.choose_first().await;
    host.sees(&["they: one"]).await;

    // The page is hidden while the node restarts.
    set_hidden(&host, true).await;
    site.nodes[0].kill();
    host.page.until("the host is offline", "!document.querySelector('.me .dot.on')").await;
    host.page.run(FORGET_FRAMES, &json!([])).await;
    site.nodes[0].start_again();
    site.nodes[0].ready(&reqwest::Client::new()).await;
    guest.send_text("two").await;
    guest.sees(&["me: one", "me: two"]).await;
    set_hidden(&host, false).await;
    within("the host is online", Duration::from_secs(5), host.is_online()).await;
    within("the conversation is complete", Duration::from_secs(5), host.sees(&["they: one", "they: two"])).await;

    // The device has slept overnight: its clock has advanced, its connections are silent, and its access token has
    // expired.
    let answers = format!("{} && ({})", has_answered("/ws/chat/"), has_answered("/status/"));
    host.page.until("both connections are known to answer", &answers).await;
    let expired = "const { fetch, WebSocket } = window; window.refused = 0; let isRenewed = false; \
        window.fetch = async (path, sent) => { if (`${path}`.includes('/token/refresh/')) isRenewed = true; \
          else if (!isRenewed && sent?.headers?.Authorization) { window.refused++; \
            return new Response(JSON.stringify({ code: 401, detail: 'expired' }), { status: 401, headers: { 'Content-Type': 'application/json' } }) } \
          return fetch(path, sent) }; \
        window.WebSocket = class extends WebSocket { constructor(url) { const at = new URL(url); \
          if (!isRenewed && at.searchParams.has('token')) { window.refused++; at.searchParams.set('token', 'expired') } super(at) } }; \
        const { now } = Date; Date.now = () => now() + 12 * 3600 * 1000";
    link.set_open(Flow::Silent);
    guest.send_text("three").await;
    guest.sees(&["me: one", "me: two", "me: three"]).await;
    host.page.run(expired, &json!([])).await;
    host.page.run("document.dispatchEvent(new Event('resume'))", &json!([])).await;
    let complete = host.sees(&["they: one", "they: two", "they: three"]);
    within("the conversation is complete", Duration::from_secs(10), complete).await;
    within("the host is online", Duration::from_secs(10), host.is_online()).await;
    site.close().await;
}
