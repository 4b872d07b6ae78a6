//! Tests the browser storage of guests. At any time it may be cleared, blocked, full, damaged, or written by a tab of
//! an earlier release.

use serde_json::{Value, json};

use crate::browser::{Browser, ESCAPE, Page};
use crate::people::{Guest, Host};
use crate::shop::{Reply, page};
use crate::site::Site;
use crate::talk::no_complaints;

/// Returns browser preferences that block cookies, storage and all other site data.
fn blocked() -> Value {
    json!({"profile.default_content_setting_values.cookies": 2})
}

/// Waits until the first room of the list shows `text`, and opens it.
async fn choose_newest(host: &Host, text: &str) {
    let newest = "document.querySelector('.rooms .room')?.textContent.includes(arguments[0])";
    host.page.until_with("the newest is on top", newest, &json!([text])).await;
    host.choose_first().await;
    let open = "document.querySelector('.talk')?.textContent.includes(arguments[0])";
    host.page.until_with("it is open", open, &json!([text])).await;
}

async fn has_unread(guest: &Guest, count: u32) {
    let badge = if count == 0 {
        format!("{}?.hidden !== false", Guest::at(".badge"))
    } else {
        format!("{}?.textContent === '{count}'", Guest::at(".badge:not([hidden])"))
    };
    guest.page.until(&format!("{count} are unread"), &badge).await;
}

/// Returns a JavaScript expression that is true if a message in the widget contains `text`.
fn shows(text: &str) -> String {
    format!("{}?.textContent.includes('{text}')", Guest::at(".talk"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_may_clear_the_storage_at_any_time() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let first = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    for at in 1..=3 {
        first.send_text(&format!("before {at}")).await;
    }
    choose_newest(&host, "before 3").await;
    host.send_text("answer before").await;
    first.sees(&["me: before 1", "me: before 2", "me: before 3", "they: answer before"]).await;
    first.page.run("localStorage.clear()", &json!([])).await;
    // The panel is closed, because an open panel marks messages as read in all tabs.
    first.page.keys(&Guest::at("textarea"), ESCAPE).await;

    // A second page is opened. The messages of its guest and the replies to them are in one room.
    let second = Guest::visit(browser.open_page().await, &site.shop.url()).await;
    second.send_text("after the storage was cleared").await;
    second.page.until("it is sent", &format!("{} && !{}", shows("after the storage"), Guest::at(".sending"))).await;
    choose_newest(&host, "after the storage was cleared").await;
    host.send_text("answer after").await;
    second.page.until("the answer is shown", &shows("answer after")).await;
    second.page.keys(&Guest::at("textarea"), ESCAPE).await;
    has_unread(&second, 0).await;
    host.send_text("one that is unread").await;
    has_unread(&second, 1).await;
    second.page.reload().await;
    has_unread(&second, 1).await;
    second.open().await;
    has_unread(&second, 0).await;
    second.page.until("it is shown", &shows("one that is unread")).await;

    // The messages of the first tab, whose storage was cleared, arrive and remain after a reload.
    first.open().await;
    first.send_text("from the first tab").await;
    first.page.until("it is sent", &format!("{} && !{}", shows("from the first tab"), Guest::at(".sending"))).await;
    choose_newest(&host, "from the first tab").await;
    host.send_text("answer to the first tab").await;
    first.page.until("the answer is shown", &shows("answer to the first tab")).await;
    first.page.reload().await;
    first.page.until("it is there", &shows("answer to the first tab")).await;
    first.page.until("with what was before it", &shows("from the first tab")).await;

    // The session storage and the local storage are cleared.
    first.page.run("sessionStorage.clear(); localStorage.clear()", &json!([])).await;
    first.send_text("once more").await;
    first.page.until("it is sent", &format!("{} && !{}", shows("once more"), Guest::at(".sending"))).await;
    first.page.reload().await;
    first.show().await;
    first.page.until("it is there", &shows("once more")).await;
    no_complaints(&browser).await;
    site.close().await;
}

/// Exchanges messages as a guest in a browser without reliable storage, and checks the unread counts.
async fn talks(guest: &Guest, host: &Host, name: &str) {
    let (question, answer) = (format!("question {name}"), format!("answer {name}"));
    guest.send_text(&question).await;
    guest.page.until("it is sent", &format!("{} && !{}", shows(&question), Guest::at(".sending"))).await;
    choose_newest(host, &question).await;
    host.send_text(&answer).await;
    guest.page.until("the answer is shown", &shows(&answer)).await;
    guest.page.keys(&Guest::at("textarea"), ESCAPE).await;
    has_unread(guest, 0).await;
    host.send_text("unread").await;
    has_unread(guest, 1).await;
    guest.open().await;
    has_unread(guest, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_blocked_site_data_the_widget_works_and_the_console_explains_it() {
    let site = Site::embedded().await;
    let allowed = Browser::start("en-US").await;
    let host = Host::sign_in(allowed.first_page().await, &site.nodes[0].url("/console/")).await;
    let browser = Browser::start_with("en-US", blocked()).await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    let blocked = "(() => { try { return localStorage && false } catch { return true } })()";
    assert_eq!(guest.page.value(blocked).await, true, "the site's data is not blocked");
    talks(&guest, &host, "without storage").await;
    // A second message arrives in the same room.
    guest.send_text("in the same room").await;
    host.page.until("it arrives", "document.querySelector('.talk').textContent.includes('in the same room')").await;
    assert_eq!(host.page.number("document.querySelectorAll('.rooms .room').length").await, 1.0);

    let console = browser.open_page().await;
    console.visit(&site.nodes[0].url("/console/")).await;
    let explained = "/site data|cookies/i.test(document.body.innerText)";
    console.until("the console names the problem", explained).await;
    let log = allowed.log().await.into_iter().chain(browser.log().await);
    let thrown: Vec<String> = log.filter(|line| line.contains("Uncaught")).collect();
    assert!(thrown.is_empty(), "{thrown:#?}");
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn widget_with_failing_storage_only_loses_data_between_pages() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let node = site.nodes[0].url("");
    let fails = "throw new DOMException('refused', 'SecurityError')";
    let full = "throw new DOMException('full', 'QuotaExceededError')";
    for (name, head) in [
        ("null", "for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name, { get: () => null })".to_owned()),
        ("undefined", "for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name, { value: undefined })".to_owned()),
        ("throwing", format!("for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name, {{ get() {{ {fails} }} }})")),
        ("full", format!("Storage.prototype.setItem = () => {{ {full} }}")),
        ("unwritable", format!("Storage.prototype.setItem = Storage.prototype.removeItem = () => {{ {fails} }}")),
        ("unreadable", format!("Storage.prototype.getItem = () => {{ {fails} }}")),
        ("forgetting", "Storage.prototype.setItem = () => {}".to_owned()),
        ("without locks", "Object.defineProperty(navigator, 'locks', { get: () => undefined })".to_owned()),
        ("refusing locks", format!("LockManager.prototype.request = async () => {{ {fails} }}")),
        ("without channels", "delete window.BroadcastChannel".to_owned()),
    ] {
        let path = format!("/{}", name.replace(' ', "-"));
        site.shop.serve(&path, Reply::html(&page("Shop", &format!("<script>{head}</script>"), &site.tag(&node))));
        let guest = Guest::visit(browser.first_page().await, &format!("{}{}", site.shop.url(), &path[1..])).await;
        talks(&guest, &host, name).await;
        // Two messages from the same page are in the same room.
        guest.send_text("the second").await;
        host.page.until(name, "document.querySelector('.talk').textContent.includes('the second')").await;
        guest.page.visit("about:blank").await;
        let clear = format!("{}clear", site.shop.url());
        site.shop.serve("/clear", Reply::html("<!doctype html><title>Clear</title>"));
        guest.page.visit(&clear).await;
        guest.page.run("localStorage.clear(); sessionStorage.clear()", &json!([])).await;
    }
    no_complaints(&browser).await;
    site.close().await;
}

/// Script that fills the storage completely.
const FILL: &str = "let size = 1 << 22; let at = 0; while (size) { \
    try { localStorage.setItem(`filler${at}`, 'x'.repeat(size)); at++; } catch { size >>= 1; } }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_storage_loses_and_duplicates_no_message() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.send_text("before it is full").await;
    guest.sees(&["me: before it is full"]).await;
    guest.page.run(FILL, &json!([])).await;
    choose_newest(&host, "before it is full").await;
    let long = "long ".repeat(300);
    host.paste(&long).await;
    let long = format!("they: {}", long.trim());
    guest.sees(&["me: before it is full", &long]).await;
    guest.paste(&"also long ".repeat(300)).await;
    let also = format!("me: {}", "also long ".repeat(300).trim());
    let seen = ["me: before it is full", &long, &also];
    guest.sees(&seen).await;
    guest.page.keys(&Guest::at("textarea"), ESCAPE).await;
    host.send_text("unread").await;
    has_unread(&guest, 1).await;
    // The reload discards the copy in memory. The stored record must either be valid or have been removed.
    guest.page.reload().await;
    guest.show().await;
    guest.sees(&[&seen[..], &["they: unread"]].concat()).await;
    has_unread(&guest, 0).await;

    // The storage is full before the widget writes to it for the first time.
    guest.page.run(&format!("localStorage.clear(); {FILL}"), &json!([])).await;
    guest.page.reload().await;
    guest.show().await;
    talks(&guest, &host, "in a full browser").await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_values_are_ignored_and_replaced() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.send_text("the first").await;
    guest.sees(&["me: the first"]).await;
    let name = "JSON.stringify({ name: '../../api/users/client', messages: [] })";
    for (at, value) in [
        "'{'",
        "''",
        "'null'",
        "'[]'",
        "'[[1, 2], null, \"x\"]'",
        "'7'",
        "'\"x\"'",
        "'true'",
        "'{}'",
        "'{\"name\": 5, \"messages\": [{}]}'",
        "JSON.stringify({ name: 'AAAAAAAAAAAAAAAAAAAAAA', messages: [null, 5, { seq: 'x' }], read: 'many', seq: {} })",
        "JSON.stringify({ name: 'AAAAAAAAAAAAAAAAAAAAAA', messages: [], read: 1e308, theirRead: -1 })",
        name,
        "'\\u0000\\ud800'",
    ]
    .into_iter()
    .enumerate()
    {
        // Damages every value that the widget has stored, and adds damaged values under further names.
        let damage = format!(
            "for (const key of Object.keys(localStorage)) if (key.startsWith('pintalk')) localStorage.setItem(key, {value}); \
             const prefix = Object.keys(localStorage).find((key) => /^pintalk:[^:]+:/.test(key)).split(':').slice(0, 2).join(':'); \
             for (const name of ['out:damaged', 'room', 'read', 'seen', 'hostRead', 'attempt', 'sound', 'ended', 'other']) \
               localStorage.setItem(`${{prefix}}:${{name}}`, {value}); \
             for (const key of Object.keys(sessionStorage)) sessionStorage.setItem(key, {value})"
        );
        guest.page.run(&damage, &json!([])).await;
        guest.page.reload().await;
        guest.show().await;
        let text = format!("after {at}");
        guest.send_text(&text).await;
        let shown = format!("{} && !{}", shows(&text), Guest::at(".sending"));
        guest.page.until(&format!("{value}: a message is sent"), &shown).await;
    }
    choose_newest(&host, "after 13").await;
    host.send_text("an answer").await;
    guest.page.until("the answer is shown", &shows("an answer")).await;
    let thrown: Vec<String> = browser.log().await.into_iter().filter(|line| line.contains("Uncaught")).collect();
    assert!(thrown.is_empty(), "{thrown:#?}");
    site.close().await;
}

/// Returns all entries of the browser's local storage.
async fn snapshot(page: &Page) -> Value {
    page.value("Object.entries(localStorage)").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_restored_by_an_old_tab_do_not_mix_rooms() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    for at in 1..=5 {
        guest.send_text(&format!("old {at}")).await;
    }
    choose_newest(&host, "old 5").await;
    host.send_text("old answer").await;
    guest.page.until("the answer is shown", &shows("old answer")).await;
    let old = snapshot(&guest.page).await;
    host.press("Delete").await;
    host.confirm().await;
    guest.sees_notice("This conversation was deleted").await;
    guest.send_text("new 1").await;
    guest.sees(&["me: new 1"]).await;
    choose_newest(&host, "new 1").await;
    host.send_text("new answer").await;
    guest.sees(&["me: new 1", "they: new answer"]).await;

    // A script of the page restores the values of the deleted room. First it restores each value alone, and finally all
    // of them.
    guest.hide().await;
    let keys = old.as_array().expect("entries").len();
    for at in 0..=keys {
        let restore = "for (const [key, value] of arguments[0]) localStorage.setItem(key, value)";
        let values = if at == keys { old.clone() } else { json!([old[at]]) };
        guest.page.run(restore, &json!([values])).await;
        let other = Guest::visit(browser.open_page().await, &site.shop.url()).await;
        let text = format!("from another page {at}");
        other.send_text(&text).await;
        other.page.until("it is sent", &format!("{} && !{}", shows(&text), Guest::at(".sending"))).await;
        choose_newest(&host, &text).await;
        let answer = format!("answer {at}");
        host.send_text(&answer).await;
        other.page.until("the answer is shown", &shows(&answer)).await;
        other.page.keys(&Guest::at("textarea"), ESCAPE).await;
        let unread = format!("unread {at}");
        host.send_text(&unread).await;
        has_unread(&other, 1).await;
        other.show().await;
        other.page.until("it is shown", &shows(&unread)).await;
        has_unread(&other, 0).await;
        // The panel is closed, because an open panel marks messages as read in all tabs.
        other.hide().await;
    }
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversation_of_an_earlier_release_continues() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let room = site.open_room(&reqwest::Client::new()).await;
    site.send_text(&room, &["from an earlier release"]).await;
    choose_newest(&host, "from an earlier release").await;
    host.send_text("read").await;
    host.send_text("not read").await;
    host.sees(&["they: from an earlier release", "me: read", "me: not read"]).await;
    let http = reqwest::Client::new();
    let client = http.get(site.nodes[0].url("/api/users/client/"));
    let client = client.header("X-PinTalk-Access-Key", &site.access_key);
    let client: Value = client
        .header("X-PinTalk-Secret-Key", &site.secret_key)
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let page = browser.first_page().await;
    site.shop.serve("/empty", Reply::html("<!doctype html><title>Empty</title>"));
    page.visit(&format!("{}empty", site.shop.url())).await;
    // The storage contains the data of release 0.1, which used one key per value.
    let store = "const [uuid, name] = arguments; const set = (key, value) => localStorage.setItem(`pintalk:${uuid}:${key}`, JSON.stringify(value)); \
        set('room', { name, guest: 'x' }); set('read', 2); set('hostRead', 1); \
        set('seen', [{ seq: 1, id: 'a', is_host: false, message: 'from an earlier release', datetime: '2023-03-23T08:15:07' }])";
    page.run(store, &json!([client["uuid"], room])).await;
    let guest = Guest { page };
    guest.page.visit(&site.shop.url()).await;
    has_unread(&guest, 1).await;
    guest.open().await;
    guest.sees(&["me: from an earlier release", "they: read", "they: not read"]).await;
    guest.send_text("and on").await;
    host.page.until("it arrives", "document.querySelector('.talk').textContent.includes('and on')").await;
    site.close().await;
}
