//! Tests conversations between guests and hosts without faults.

use serde_json::json;

use crate::browser::{Browser, ESCAPE};
use crate::people::{Guest, Host};
use crate::site::{Site, keep_picture, readme_tags};

/// Texts that must be shown exactly as they were typed.
const TEXTS: [&str; 7] = [
    "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>",
    "\"><svg/onload=document.title='broken'> &lt;b&gt; &amp;",
    "javascript:document.title='broken'",
    "שלום, hello, مرحبا 123",
    "👨‍👩‍👧‍👦 🏳️‍🌈 e\u{301} 각 \u{202e}gnp.exe",
    "first line\n\n  third line\tafter a tab",
    "{{7*7}} ${7*7} %s <%= 7 %>",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guest_and_host_exchange_messages_across_two_nodes_and_markup_is_shown_as_text() {
    let site = Site::cluster().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.other().url("/console/")).await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.page.until("the host is shown online", &Guest::at(".presence .dot.on")).await;

    guest.send_text("is anybody there?").await;
    guest.sees(&["me: is anybody there?"]).await;
    host.page.until("the room is unread", "document.querySelector('.rooms .count')").await;
    host.choose_first().await;
    host.sees(&["they: is anybody there?"]).await;
    host.page.until("it is not unread any more", "!document.querySelector('.rooms .count')").await;
    guest
        .page
        .until("the guest sees that it was read", &format!("{}?.textContent.includes('Read')", Guest::at(".meta")))
        .await;

    host.page.remember("document.querySelector('.conversation .notice')").await;
    guest.page.remember(&Guest::at(".notice")).await;
    guest.page.keys(&Guest::at("textarea"), "no").await;
    host.page.has_shown("is typing").await;
    guest.page.keys(&Guest::at("textarea"), "\u{e003}\u{e003}").await;
    host.page.keys("document.querySelector('.writing textarea')", "yes").await;
    guest.page.has_shown("is typing").await;
    host.send_text(", I am").await;
    guest.sees(&["me: is anybody there?", "they: yes, I am"]).await;

    let mut shown = (vec!["me: is anybody there?".to_owned(), "they: yes, I am".to_owned()], vec![]);
    shown.1 = vec!["they: is anybody there?".to_owned(), "me: yes, I am".to_owned()];
    let long = "W".repeat(2_000);
    for (at, text) in TEXTS.iter().copied().chain([long.as_str()]).enumerate() {
        let (of_guest, of_host) = if at % 2 == 0 { ("me", "they") } else { ("they", "me") };
        if at % 2 == 0 {
            guest.paste(text).await;
        } else {
            host.paste(text).await;
        }
        shown.0.push(format!("{of_guest}: {text}"));
        shown.1.push(format!("{of_host}: {text}"));
        guest.sees(&shown.0.iter().map(String::as_str).collect::<Vec<_>>()).await;
        host.sees(&shown.1.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    for page in [&guest.page, &host.page] {
        let title = page.run("return document.title", &json!([])).await;
        assert!(!title.as_str().unwrap_or_default().contains("broken"), "something that was typed has run");
        let is_wide = page.run("return document.documentElement.scrollWidth > innerWidth", &json!([])).await;
        assert_eq!(is_wide, false, "a long word makes the page wider");
    }
    guest.page.paste(&Guest::at("textarea"), &"W".repeat(1_000_000)).await;
    guest.sees_notice("This message is too long").await;
    let is_wide = guest.page.run("return document.documentElement.scrollWidth > innerWidth", &json!([])).await;
    assert_eq!(is_wide, false, "a million of a letter makes the page wider");
    keep_picture(&guest.page, "widget-long-text").await;
    guest.page.resize(640, 400, false).await;
    let room = guest.page.run(&format!("return {}.clientHeight", Guest::at(".talk")), &json!([])).await;
    assert!(room.as_u64() >= Some(60), "a long draft leaves {room} px of a low window to the messages");
    no_complaints(&browser).await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_is_listed_on_notification_even_if_the_list_lags() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    // The room list lags: two responses contain the room without its new message.
    let late = "const { fetch } = window; window.late = 2; \
        window.fetch = async (path, sent) => { \
          const answer = await fetch(path, sent); \
          if (!path.startsWith('/api/chat/chatrooms/?')) return answer; \
          const page = await answer.json(); \
          if (page.results.length && window.late-- > 0) \
            for (const room of page.results) Object.assign(room, { latestMsg: null, latestMsgAt: null, unread: 0 }); \
          return new Response(JSON.stringify(page)); }; \
        window.seen = []; new MutationObserver(() => { const row = document.querySelector('.rooms .room'); \
          if (row) window.seen.push([row.querySelector('.latest').textContent, Boolean(row.querySelector('.count'))]); }) \
          .observe(document.querySelector('.rooms'), { childList: true, subtree: true })";
    host.page.run(late, &json!([])).await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.send_text("is anybody there?").await;
    host.page.until("the list has been asked until it had it", "window.late < 0").await;
    let row = "document.querySelector('.rooms .room .count')";
    host.page.until("it is unread", row).await;
    let seen = host.page.run("return window.seen", &json!([])).await;
    let all_the_time = json!(["is anybody there?", true]);
    assert!(seen.as_array().is_some_and(|seen| seen.iter().all(|row| *row == all_the_time)), "{seen}");
    site.close().await;
}

/// Fails if the browser console contains an unexpected message, such as a policy violation or a script error.
pub async fn no_complaints(browser: &Browser) {
    let log = browser.log().await;
    let complaints: Vec<_> = log.iter().filter(|line| !is_expected(line)).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// Returns whether a console message is expected: a 401 when the console checks for a login, a 404 without a webhook,
/// or a hint about password managers.
fn is_expected(line: &str) -> bool {
    line.contains("/api/auth/token/refresh/") && line.contains("401")
        || line.contains("/webhook/") && line.contains("404")
        || line.contains("[DOM]")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tabs_of_one_guest_stay_in_sync_and_share_one_room() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let one = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    let other = Guest::visit(browser.open_page().await, &site.shop.url()).await;
    // Both tabs send a message at the same time.
    tokio::join!(one.paste("from the first"), other.paste("from the second"));
    host.choose_first().await;
    host.page.until("both arrive in one room", "document.querySelectorAll('.talk .bubble').length === 2").await;
    assert_eq!(host.page.run("return document.querySelectorAll('.rooms .room').length", &json!([])).await, 1);
    let said = one.messages().await;
    host.send_text("to both").await;
    let mut texts: Vec<String> = said.iter().map(|(_, _, text)| format!("me: {text}")).collect();
    texts.push("they: to both".into());
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    one.sees(&texts).await;
    other.sees(&texts).await;

    // While the panel is closed, the widget counts unread messages and shows the count in the title, even if the title
    // starts with a number. Reading messages in one tab marks them as read in all tabs.
    other.page.run("document.title = '(500) Days of Summer'", &json!([])).await;
    one.page.keys(&Guest::at("textarea"), ESCAPE).await;
    other.page.keys(&Guest::at("textarea"), ESCAPE).await;
    host.send_text("are you there?").await;
    let titles = [(&one, "Shop"), (&other, "(500) Days of Summer")];
    for (tab, title) in titles {
        tab.page.until("it is counted", &format!("{}?.textContent === '1'", Guest::at(".badge:not([hidden])"))).await;
        tab.page.until("the title shows the count", &format!("document.title === '(1) {title}'")).await;
    }
    other.open().await;
    for (tab, title) in titles {
        tab.page.until("nothing is unread", &Guest::at(".badge[hidden]")).await;
        tab.page.until("the title is as it was", &format!("document.title === '{title}'")).await;
    }
    // The draft and the open panel survive a reload.
    other.page.keys(&Guest::at("textarea"), "half a sent").await;
    other.page.reload().await;
    other.page.until("the draft is there", &format!("{}?.value === 'half a sent'", Guest::at("textarea"))).await;
    other.send_text("ence").await;
    let texts = [&texts[..], &["they: are you there?", "me: half a sentence"]].concat();
    other.sees(&texts).await;
    one.open().await;
    one.sees(&texts).await;
    no_complaints(&browser).await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_room_is_explained_and_reopened_and_a_deleted_one_starts_anew() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.send_text("one").await;
    host.choose_first().await;
    host.sees(&["they: one"]).await;

    // Long timers of the guest's page are shortened, and their delays are recorded.
    let hurry = "const { setTimeout } = window; window.waits = []; \
        window.setTimeout = (call, ms) => setTimeout(call, ms < 20000 ? ms : (window.waits.push(ms), 50))";
    guest.page.run(hurry, &json!([])).await;
    // The host hides the online status and shows it again.
    guest.page.until("the host is shown online", &Guest::at(".presence .dot.on")).await;
    host.press("Settings").await;
    let shows = "document.querySelector('.switch input:not(:disabled)')";
    host.page.click(shows).await;
    guest.page.until("nothing is shown", &Guest::at(".launcher .dot[hidden]")).await;
    host.page.click(shows).await;
    guest.page.until("the host is shown online again", &Guest::at(".presence .dot.on")).await;
    assert_eq!(guest.page.run("return window.waits.splice(0).every((wait) => wait >= 300000)", &json!([])).await, true);
    host.choose_first().await;
    host.press("Close").await;
    host.confirm().await;
    guest.sees_notice("This conversation is closed").await;
    host.page.until("it is out of the list", "!document.querySelector('.rooms .room')").await;
    keep_picture(&guest.page, "widget-closed").await;
    keep_picture(&host.page, "console-closed").await;
    host.page.until("nothing can be written", "document.querySelector('.writing').hidden").await;
    // The widget checks whether the room is open. This changes nothing that is visible and does not reopen the room.
    guest.page.remember(&Guest::at(".notice")).await;
    guest.page.until("the widget has probed", "window.waits.length > 5").await;
    let waits: Vec<f64> =
        serde_json::from_value(guest.page.run("return window.waits", &json!([])).await).expect("waits");
    // The delay before the n-th check is n times 20 to 60 seconds.
    let looks = waits.iter().zip(1..).map(|(wait, look)| wait / f64::from(look));
    assert!(looks.into_iter().all(|wait| (20e3..=60e3).contains(&wait)), "{waits:?}");
    assert_eq!(guest.page.run("return window.said", &json!([])).await, json!([]), "the line below flickers");
    assert_eq!(host.page.run("return document.querySelectorAll('.rooms .room').length", &json!([])).await, 0);
    // After the host has reopened the room, the guest receives messages even while the panel is closed.
    guest.page.keys(&Guest::at("textarea"), ESCAPE).await;
    host.press("Restore").await;
    host.page.until("the host can write", "!document.querySelector('.writing').hidden").await;
    host.send_text("two").await;
    guest.page.until("it is counted", &format!("{}?.textContent === '1'", Guest::at(".badge:not([hidden])"))).await;
    guest.page.until("the title shows the count", "document.title === '(1) Shop'").await;
    guest.open().await;
    guest.sees(&["me: one", "they: two"]).await;
    guest.page.until("it is as it was", &format!("{}.textContent === ''", Guest::at(".notice"))).await;

    host.press("Close").await;
    host.confirm().await;
    guest.sees_notice("This conversation is closed").await;
    // A guest who opens the page does not reopen the room.
    guest.page.reload().await;
    guest.sees_notice("This conversation is closed").await;
    guest.sees(&["me: one", "they: two"]).await;
    assert_eq!(host.page.run("return document.querySelectorAll('.rooms .room').length", &json!([])).await, 0);
    // The browser has stored only the newest messages. The widget states that earlier messages will be shown when the
    // room is open.
    let forget = "const key = Object.keys(localStorage).find((key) => key.endsWith(':room')); \
        const room = JSON.parse(localStorage.getItem(key)); room.messages.shift(); localStorage.setItem(key, JSON.stringify(room))";
    guest.page.run(forget, &json!([])).await;
    guest.page.reload().await;
    guest.sees_notice("Earlier messages will reappear").await;
    guest.sees(&["they: two"]).await;
    // A message of the guest reopens the room.
    guest.send_text("three").await;
    guest.sees(&["me: one", "they: two", "me: three"]).await;
    host.page.until("it is in the list again", "document.querySelector('.rooms .room')").await;
    host.choose_first().await;
    host.sees(&["they: one", "me: two", "they: three"]).await;

    host.press("Delete").await;
    host.confirm().await;
    guest.sees_notice("This conversation was deleted").await;
    guest.sees(&[]).await;
    guest.send_text("four").await;
    guest.sees(&["me: four"]).await;
    host.choose_first().await;
    host.sees(&["they: four"]).await;
    no_complaints(&browser).await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_tag_logs_the_reason() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let page = browser.first_page().await;
    let script = site.nodes[0].url("/widget.js");
    let [as_it_stands, _] =
        readme_tags("…", "…").map(|tag| tag.replace("https://chat.shop.example/widget.js", &script));
    let [tag, _] = readme_tags(&site.access_key, &site.secret_key);
    let tag = tag.replace("https://chat.shop.example/widget.js", &script);
    let bare = tag.replace(" async", " data-server=\"127.0.0.1:48081\" async");
    let half = tag.replace("data-access-key", "data-acces-key");
    let unknown = tag.replace(&site.access_key, &"A".repeat(22));
    let keys = "Copy both from the console";
    for (end, wanted) in
        [(as_it_stands, keys), (half, keys), (bare, "is not a URL: it must begin with https://"), (unknown, "401")]
    {
        site.shop.show_with("", &end);
        page.visit(&site.shop.url()).await;
        let logged = crate::eventually(wanted, crate::TIMEOUT, async || {
            browser.log().await.into_iter().find(|line| line.contains("PinTalk: "))
        });
        let logged = logged.await.replace('\\', "");
        assert!(logged.contains(wanted), "{end}: {logged}");
    }
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn widget_opens_as_requested_once_the_server_answers_and_stops_retrying_when_removed() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let page = browser.first_page().await;
    // The server is unavailable while `isAway` is true. Short timers and request timeouts run normally. All other
    // timers run only when the test calls them.
    let head = "<script>{ const { setTimeout, fetch } = window; window.due = []; window.asked = 0; window.isAway = true; \
        window.setTimeout = (call, ms) => (ms < 5000 || ms === 15000 ? setTimeout(call, ms) : window.due.push(call)); \
        window.fetch = (...call) => (window.asked++, window.isAway ? Promise.reject(new TypeError()) : fetch(...call)); \
        }</script>";
    let [tag, _] = readme_tags(&site.access_key, &site.secret_key);
    site.shop.show_with(head, &tag.replace("https://chat.shop.example", &site.nodes[0].url("")));
    page.visit(&site.shop.url()).await;
    page.until("the request is not answered", "window.asked === 1 && window.due.length === 1").await;
    let pass = "due.shift()(); await new Promise((go) => setTimeout(go, 0)); return window.asked";
    assert_eq!(page.run(pass, &json!([])).await, 2, "it asks again");
    page.until("the second request is not answered either", "window.due.length === 1").await;
    let gone = format!("window.widget = document.querySelector('pintalk-widget'); window.widget.remove(); {pass}");
    assert_eq!(page.run(&gone, &json!([])).await, 2, "one that is gone asks again");
    page.run("document.body.append(window.widget)", &json!([])).await;
    page.until("the request is not answered", "window.asked === 3 && window.due.length === 1").await;
    page.run("document.querySelector('pintalk-widget').toggle(true); window.isAway = false; due.shift()()", &json!([]))
        .await;
    page.until("it is open", &format!("{}?.hidden === false", Guest::at(".panel"))).await;
    let focus = "document.querySelector('pintalk-widget').shadowRoot.activeElement?.tagName === 'TEXTAREA'";
    page.until("it can be written into", focus).await;
    site.close().await;
}
