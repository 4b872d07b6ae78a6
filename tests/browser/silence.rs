//! Tests connections that become silent without a reset.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::browser::{Browser, Page};
use crate::device::{FAST_CLOCK, FORGET_FRAMES, RECORD_FRAMES, fast_clock, has_answered};
use crate::link::{Flow, Link, within};
use crate::people::{Guest, Host};
use crate::shop::{ORIGINS, Reply, page};
use crate::site::Site;

/// Maximum time to detect a silent connection if the browser reports no event.
const WITHOUT_EVENT: Duration = Duration::from_secs(45);
const AFTER_EVENT: Duration = Duration::from_secs(3);

/// Script that removes `v=2` from the URL of every socket. The node then does not answer pings, as in earlier releases.
const EARLIER_NODE: &str = "window.WebSocket = new Proxy(WebSocket, { construct: (target, [url, ...more], made) => { \
    const at = new URL(url); at.searchParams.delete('v'); return Reflect.construct(target, [at, ...more], made); } });";

/// JavaScript expression for the number of opened sockets and the frames that the page has sent.
const IDLE: &str = "[openedSockets, sentFrames.map(([at, url, text]) => [Math.round(at), url, text])]";

/// Opens a conversation at another origin of the shop. Its page loads the widget from `base`.
async fn guest_at(site: &Site, page: Page, origin: &str, base: &str) -> Guest {
    site.shop.serve(&format!("/{origin}"), Reply::html(&crate::shop::page("Shop", "", &site.tag(base))));
    Guest::visit(page, &format!("{}{origin}", site.shop.url_at(origin))).await
}

/// Sends a text as the host to the room that is open in the console.
async fn answer(host: &Host, text: &str) {
    host.send_text(text).await;
    let sent = "[...document.querySelectorAll('.talk li:not(.sending) .bubble')].at(-1)?.textContent === arguments[0]";
    host.page.until_with("the answer is sent", sent, &json!([text])).await;
}

async fn shows(guest: &Guest, text: &str) {
    let shown = format!("{}?.textContent.includes(arguments[0])", Guest::at(".talk"));
    let script = format!("return Boolean({shown})");
    crate::eventually(text, Duration::from_secs(90), async || {
        guest.page.run(&script, &json!([text])).await.as_bool().filter(|is| *is)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_are_replaced_without_an_event_and_idle_ones_stay_quiet() {
    let site = Site::embedded().await;
    let node = site.nodes[0].url("");
    let (of_guest, of_host) = (Link::before(site.nodes[0].address).await, Link::before(site.nodes[0].address).await);
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &format!("{node}/console/")).await;
    // The second console has a different host name, and therefore its own login.
    let cut_off = format!("http://localhost:{}/console/", of_host.address.port());
    let cut_off = Host::sign_in(browser.open_page().await, &cut_off).await;

    // Two guests are idle. The node of the second guest does not answer pings.
    let idle = browser.open_page().await;
    idle.before_load(RECORD_FRAMES).await;
    let idle = guest_at(&site, idle, ORIGINS[1], &node).await;
    idle.send_text("nothing else").await;
    idle.sees(&["me: nothing else"]).await;
    let earlier = browser.open_page().await;
    earlier.before_load(RECORD_FRAMES).await;
    earlier.before_load(EARLIER_NODE).await;
    let earlier = guest_at(&site, earlier, ORIGINS[2], &node).await;
    earlier.send_text("nothing either").await;
    earlier.sees(&["me: nothing either"]).await;
    let sockets = earlier.page.number("openedSockets").await;

    let guest = guest_at(&site, browser.first_page().await, ORIGINS[0], &of_guest.url("")).await;
    guest.send_text("is there an answer?").await;
    guest.sees(&["me: is there an answer?"]).await;
    let newest = "document.querySelector('.rooms .room')?.textContent.includes('is there an answer?')";
    host.page.until("the host has the question", newest).await;
    host.choose_first().await;
    idle.page.run(FORGET_FRAMES, &json!([])).await;

    of_guest.set_open(Flow::Silent);
    of_host.set_all(Flow::Silent);
    let began = Instant::now();
    answer(&host, "there is").await;
    let is_offline = async {
        let offline = "return !document.querySelector('.me .dot.on')";
        let seen = async || cut_off.page.run(offline, &json!([])).await.as_bool().filter(|is| *is);
        crate::eventually("the console is offline", 2 * WITHOUT_EVENT, seen).await;
    };
    tokio::join!(
        within("the answer is shown", WITHOUT_EVENT, shows(&guest, "there is")),
        within("the console is offline", WITHOUT_EVENT, is_offline),
    );
    of_host.set_all(Flow::Whole);
    cut_off.is_online().await;

    // Both guests have now been idle for one minute.
    let minute = async || (began.elapsed() > Duration::from_secs(62)).then_some(());
    crate::eventually("a minute has passed", 2 * WITHOUT_EVENT, minute).await;
    let idled = idle.page.value(IDLE).await;
    let frames: Vec<(f64, String, String)> = serde_json::from_value(idled[1].clone()).expect("frames");
    assert!(!frames.is_empty(), "an idle socket pings");
    for (at, url, text) in &frames {
        let next = frames.iter().find(|(later, same, _)| later > at && same == url);
        assert!(next.is_none_or(|(later, ..)| later - at >= 30_000.0), "two frames within 30 s: {frames:#?}");
        assert!(text.contains("ping"), "{text}");
    }
    assert_eq!(earlier.page.number("openedSockets").await, sockets, "a node without pongs is declared dead");
    answer_is_immediate(&host, &earlier).await;
    site.close().await;
}

/// Checks that guest and host can exchange messages, so the guest's socket works.
async fn answer_is_immediate(host: &Host, guest: &Guest) {
    guest.send_text("and here?").await;
    let newest = "document.querySelector('.rooms .room')?.textContent.includes('and here?')";
    host.page.until("the host has the question", newest).await;
    host.choose_first().await;
    host.page.until("it is open", "document.querySelector('.talk')?.textContent.includes('and here?')").await;
    answer(host, "here as well").await;
    shows(guest, "here as well").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_reveal_a_silent_connection_within_three_seconds() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let link = Link::before(site.nodes[0].address).await;
    let guest = guest_at(&site, browser.first_page().await, ORIGINS[0], &link.url("")).await;
    guest.page.run(RECORD_FRAMES, &json!([])).await;
    guest.send_text("hello").await;
    guest.sees(&["me: hello"]).await;
    host.choose_first().await;
    let answers = &has_answered("/ws/chat/");
    for (at, event) in [
        "dispatchEvent(new Event('online'))",
        "document.dispatchEvent(new Event('visibilitychange'))",
        "dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))",
        "document.dispatchEvent(new Event('resume'))",
    ]
    .into_iter()
    .enumerate()
    {
        // Each pass silences one or both directions. A single silent direction must be detected as well.
        guest.page.until("the connection is known to answer", answers).await;
        let text = format!("answer {at}");
        link.set_open([Flow::Silent, Flow::ToNode, Flow::ToBrowser, Flow::Silent][at]);
        if at == 2 {
            // The link drops data of the guest and forwards data of the node.
            guest.send_text("lost at first").await;
        } else {
            answer(&host, &text).await;
            let seen = format!("{}.textContent.includes('{text}')", Guest::at(".talk"));
            assert_eq!(guest.page.value(&seen).await, false, "the link is not silent");
        }
        guest.page.run(FORGET_FRAMES, &json!([])).await;
        guest.page.run(event, &json!([])).await;
        if at == 2 {
            let arrives = async {
                let arrived = "document.querySelector('.talk')?.textContent.includes('lost at first')";
                host.page.until("it arrives", arrived).await;
            };
            within(event, AFTER_EVENT, arrives).await;
        } else {
            within(event, AFTER_EVENT, shows(&guest, &text)).await;
        }
    }

    guest.page.until("the connection is known to answer", answers).await;
    // The device is offline: its connections neither end nor carry data.
    guest.page.set_offline(true).await;
    link.set_open(Flow::Silent);
    answer(&host, "while it was offline").await;
    guest.page.set_offline(false).await;
    within("connected again", AFTER_EVENT, shows(&guest, "while it was offline")).await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn console_recovers_from_a_silent_connection_after_an_event() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let link = Link::before(site.nodes[0].address).await;
    let page = browser.open_page().await;
    page.before_load(RECORD_FRAMES).await;
    let host = Host::sign_in(page, &link.url("/console/")).await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.send_text("one").await;
    host.choose_first().await;
    host.sees(&["they: one"]).await;
    let answers = &format!("{} && ({})", has_answered("/ws/chat/"), has_answered("/status/"));
    let mut seen = vec!["they: one".to_owned()];
    for event in ["dispatchEvent(new Event('online'))", "document.dispatchEvent(new Event('visibilitychange'))"] {
        host.page.until("both connections are known to answer", answers).await;
        link.set_open(Flow::Silent);
        let text = format!("before {}", seen.len());
        guest.send_text(&text).await;
        seen.push(format!("they: {text}"));
        guest.page.until("it is sent", &format!("!{}", Guest::at(".sending"))).await;
        host.page.run(FORGET_FRAMES, &json!([])).await;
        host.page.run(event, &json!([])).await;
        let wanted: Vec<&str> = seen.iter().map(String::as_str).collect();
        within(event, AFTER_EVENT, host.sees(&wanted)).await;
        within(event, AFTER_EVENT, host.is_online()).await;
    }
    // The room list recovers as well. It contains a new room whose notification was lost.
    host.page.until("both connections are known to answer", answers).await;
    link.set_open(Flow::Silent);
    site.send_text(&site.open_room(&reqwest::Client::new()).await, &["from another guest"]).await;
    host.page.run("dispatchEvent(new Event('online'))", &json!([])).await;
    let listed = "document.querySelector('.rooms').textContent.includes('from another guest')";
    within("the list is complete", AFTER_EVENT, host.page.until("it is listed", listed)).await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_requests_time_out_and_are_retried() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let node = site.nodes[0].url("");
    let link = Link::before(site.nodes[0].address).await;
    let tag = site.tag(&node).replace(" async", &format!(" data-server=\"{}\" async", link.url("")));
    site.shop.serve("/hangs", Reply::html(&page("Shop", "", &tag)));
    let guest = Guest { page: browser.first_page().await };
    guest.page.before_load(&fast_clock()).await;

    // The widget repeats the request for the host's profile until the server answers.
    link.set_all(Flow::Silent);
    guest.page.visit(&format!("{}hangs", site.shop.url())).await;
    let requested = "performance.getEntriesByType('resource').length >= 0 && customElements.get('pintalk-widget')";
    guest.page.until("the widget is defined", requested).await;
    guest.page.until("nothing is shown", &format!("!{}", Guest::at(".launcher"))).await;
    // The link forwards data of new connections only. The first request is therefore never answered.
    link.set_all(Flow::Whole);
    let limit = Duration::from_secs(60) / FAST_CLOCK * 2;
    within("the launcher is shown", limit, guest.open()).await;

    // The response to the request that creates the room is lost. The next request returns the same room.
    link.set_open(Flow::ToNode);
    guest.send_text("hello").await;
    guest.sees(&["sending me: hello"]).await;
    let token = sign_in(&site).await;
    let opened = async || (rooms(&site, &token).await == 1).then_some(());
    crate::eventually("the room is open", crate::TIMEOUT, opened).await;
    within("the message is sent", limit, guest.sees(&["me: hello"])).await;
    assert_eq!(rooms(&site, &token).await, 1, "a repeated request opens another room");
    site.close().await;
}

/// Logs the host in and returns an access token.
async fn sign_in(site: &Site) -> String {
    let login = reqwest::Client::new().post(site.nodes[0].url("/api/auth/login/"));
    let login = login.json(&json!({"email": crate::site::EMAIL, "password": crate::site::PASSWORD}));
    let host: serde_json::Value = login.send().await.expect("an answer").json().await.expect("JSON");
    host["accessToken"].as_str().expect("a token").to_owned()
}

/// Returns the number of the host's rooms.
async fn rooms(site: &Site, token: &str) -> u64 {
    let list = reqwest::Client::new().get(site.nodes[0].url("/api/chat/chatrooms/")).bearer_auth(token);
    let list: serde_json::Value = list.send().await.expect("an answer").json().await.expect("JSON");
    list["count"].as_u64().expect("a count")
}
