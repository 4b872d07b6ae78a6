//! Tests the appearance and accessibility of widget and console: on phones, with the dark theme and for screen readers.
//! Also tests the widget's warning in the browser console on unregistered pages.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::browser::{Browser, Page};
use crate::people::{Guest, Host};
use crate::site::{Site, keep_picture, readme_tags};
use crate::talk::no_complaints;

/// Message of a guest. [`ANSWER`] is the reply of the host, and [`OTHERS`] are messages of other guests.
const QUESTION: &str = "안녕하세요, 제주도까지 배송되나요?";
const ANSWER: &str = "네, 사흘 안에 도착해요.";
const OTHERS: [&str; 4] = ["영수증 받을 수 있을까요?", "Do you ship abroad?", "교환은 어떻게 하나요?", "감사합니다!"];

/// Style that the page sets for the widget.
const LOOK: &str = "pintalk-widget { --pintalk-accent: #006633 }";

/// Impacts of the axe-core violations that the tests accept.
const HARMLESS: [&str; 2] = ["minor", "moderate"];

/// Fails if axe-core finds a serious violation. Such a violation makes the page unusable with a screen reader or a
/// keyboard.
pub async fn is_accessible(page: &Page, what: &str) {
    let folder = PathBuf::from(std::env::var("PINTALK_TEST_AXE").expect("axe-core, as tests/run sees to"));
    let axe = std::fs::read_to_string(folder.join("axe_playwright_python/axe.min.js")).expect("axe-core");
    page.run(&axe, &json!([])).await;
    let found = page.run("return axe.run(document, { resultTypes: ['violations'] })", &json!([])).await;
    assert!(found["passes"].as_array().is_some_and(|passes| passes.len() > 5), "axe-core looked at nothing: {found}");
    let serious: Vec<Value> = found["violations"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|found| !HARMLESS.contains(&found["impact"].as_str().unwrap_or_default()))
        .map(|found| json!([found["id"], found["nodes"][0]["target"], found["nodes"][0]["failureSummary"]]))
        .collect();
    assert!(serious.is_empty(), "{what}: {serious:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn widget_and_console_are_accessible_in_light_and_dark_and_on_small_screens() {
    let site = Site::embedded().await;
    let browser = Browser::start("ko-KR").await;
    let http = reqwest::Client::new();
    for text in OTHERS {
        site.send_text(&site.open_room(&http).await, &[text]).await;
    }
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let [tag, _] = readme_tags(&site.access_key, &site.secret_key);
    let tag = tag.replace("https://chat.shop.example", &site.nodes[0].url(""));
    site.shop.show_with("", &tag.replace(" async", " data-lang=\"ko\" async"));
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.send_text(QUESTION).await;
    let newest = "document.querySelector('.rooms .room')?.textContent.includes(arguments[0])";
    host.page.until_with("the newest is on top", newest, &json!([QUESTION])).await;
    host.choose_first().await;
    host.send_text(ANSWER).await;
    guest.sees(&[&format!("me: {QUESTION}"), &format!("they: {ANSWER}")]).await;
    for scheme in ["light", "dark"] {
        guest.page.prefer(scheme).await;
        is_accessible(&guest.page, "the widget").await;
        keep_picture(&guest.page, &format!("widget-{scheme}")).await;
        host.page.prefer(scheme).await;
        is_accessible(&host.page, "a conversation").await;
        keep_picture(&host.page, &format!("console-{scheme}")).await;
    }

    // On a phone, the panel fills the screen and the console shows one pane at a time.
    guest.page.prefer("light").await;
    guest.page.resize(390, 780, true).await;
    let fills = "const { left, top, width, height } = arguments[0].getBoundingClientRect(); \
                 return [left, top, width, height].map(Math.round)";
    let panel = guest.page.run(&format!("return {}", Guest::at(".panel")), &json!([])).await;
    assert_eq!(guest.page.run(fills, &json!([panel])).await, json!([0, 0, 390, 780]));
    keep_picture(&guest.page, "widget-phone").await;
    host.page.resize(390, 780, true).await;
    host.page
        .until("the list is out of the way", "getComputedStyle(document.querySelector('nav')).display === 'none'")
        .await;
    is_accessible(&host.page, "a conversation on a phone").await;
    keep_picture(&host.page, "console-phone").await;
    host.page.click("document.querySelector('.conversation .narrow')").await;
    host.page.until("the list is back", "document.querySelector('nav').offsetWidth === innerWidth").await;
    is_accessible(&host.page, "the list on a phone").await;
    keep_picture(&host.page, "console-phone-list").await;
    host.page.click("document.querySelectorAll('.me .tool')[0]").await;
    host.page.until("the settings are there", "document.querySelector('.switch input')").await;
    let wide = host.page.run("return document.documentElement.scrollWidth > innerWidth", &json!([])).await;
    assert_eq!(wide, false, "the settings are wider than a phone");
    is_accessible(&host.page, "the settings").await;
    let height = host.page.run("return document.querySelector('.cards').scrollHeight + 70", &json!([])).await;
    let height = u32::try_from(height.as_u64().expect("a height")).expect("a height");
    for (name, width, height, is_phone) in
        [("console-phone-settings", 390, height, true), ("console-settings", 1280, height, false)]
    {
        host.page.resize(width, height, is_phone).await;
        keep_picture(&host.page, name).await;
    }
    // The server's errors are shown in the language of the page.
    host.page.run("document.querySelector('#field-serviceName').value = ''", &json!([])).await;
    host.page.click("[...document.querySelectorAll('.card')][1].querySelector('.button')").await;
    let says = "document.querySelector('#field-serviceName-hint.wrong')?.textContent === '1~50자로 입력해 주세요.'";
    host.page.until("the field shows the error, in Korean", says).await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn widget_shifts_no_layout_calls_no_other_server_and_applies_the_settings_of_the_page() {
    let site = Site::embedded().await;
    let node = site.nodes[0].url("");
    let sockets = node.replace("http", "ws");
    // The content security policy of this page permits exactly the sources that the README lists.
    let head = format!(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{}'; script-src {node}; \
         connect-src {node} {sockets}; img-src {node}/media/\"><style>{LOOK}</style>",
        base64::engine::general_purpose::STANDARD.encode(<sha2::Sha256 as sha2::Digest>::digest(LOOK))
    );
    let script = format!("<script src=\"{node}/widget.js\" async></script>");
    // The attributes of the element set Korean, the dark theme and a launcher on the left.
    let [_, element] = readme_tags(&site.access_key, &site.secret_key);
    site.shop.show_with(&head, &format!("{element}{script}"));
    let browser = Browser::start("en-US").await;
    let page = browser.first_page().await;
    page.prefer("light").await;
    page.visit(&site.shop.url()).await;
    let shifts = "window.shifts = []; new PerformanceObserver((list) => window.shifts.push(...list.getEntries())) \
                  .observe({ type: 'layout-shift', buffered: true })";
    page.run(shifts, &json!([])).await;
    page.until("the launcher is in Korean", &format!("{}?.ariaLabel === '채팅 열기'", Guest::at(".launcher"))).await;

    // The test uses only the keyboard.
    let focus = "document.querySelector('pintalk-widget').shadowRoot.activeElement?";
    page.press("Tab").await;
    page.until("the launcher has the focus", &format!("{focus}.className === 'launcher'")).await;
    page.press("Enter").await;
    page.until("it is open, to be written into", &format!("{focus}.tagName === 'TEXTAREA'")).await;
    keep_picture(&page, "widget-dark-left-korean").await;
    page.press("Escape").await;
    page.until("it is closed", &format!("{}?.hidden && {focus}.className === 'launcher'", Guest::at(".panel"))).await;
    page.press("Enter").await;
    page.until("it is open again", &format!("{focus}.tagName === 'TEXTAREA'")).await;

    // The widget has the colours and the position that the page sets.
    let style = |selector: &str, what: &str| format!("return getComputedStyle({}).{what}", Guest::at(selector));
    let dark = page.run(&style(".panel", "backgroundColor"), &json!([])).await;
    let colour = page.run(&style(".launcher", "backgroundColor"), &json!([])).await;
    assert_eq!((dark, colour), (json!("rgb(23, 25, 31)"), json!("rgb(0, 102, 51)")));
    let left = format!("return {}.getBoundingClientRect().left", Guest::at(".launcher"));
    assert_eq!(page.run(&left, &json!([])).await, 20);
    let sound = format!("return {}.ariaLabel", Guest::at(".tool"));
    assert_eq!(page.run(&sound, &json!([])).await, "소리 켜기", "it is off");

    // The first message opens the room. No earlier action has opened one.
    let asked = "return performance.getEntriesByType('resource').map((entry) => entry.name)";
    let asked = async || -> Vec<String> { serde_json::from_value(page.run(asked, &json!([])).await).expect("URLs") };
    let rooms = format!("{node}/api/chat/");
    assert!(!asked().await.contains(&rooms));
    let guest = Guest { page: page.clone() };
    guest.send_text("안녕하세요").await;
    guest.sees(&["me: 안녕하세요"]).await;
    let asked = asked().await;
    assert!(asked.contains(&rooms) && asked.contains(&format!("{node}/widget.js")), "{asked:?}");
    assert_eq!(asked.iter().find(|url| !url.starts_with(&node) && !url.starts_with(&site.shop.url())), None);

    // The widget causes no layout shift. The test causes one, to check that the observer reports layout shifts.
    page.run("document.querySelector('main').style.marginTop = '300px'", &json!([])).await;
    page.until("what moves is seen", "window.shifts.length").await;
    let moved = "return window.shifts.map((shift) => shift.sources.map(({ node }) => node?.nodeName ?? ''))";
    let moved = page.run(moved, &json!([])).await;
    assert_eq!(moved.as_array().map(Vec::len), Some(1), "{moved}");
    no_complaints(&browser).await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unregistered_page_is_rejected_and_the_console_message_states_what_to_do() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let page = browser.first_page().await;
    // The same page under another host name has another origin.
    let stranger = site.shop.url().replace("127.0.0.1", "localhost");
    page.visit(&stranger).await;
    let domain = stranger.trim_start_matches("http://").trim_end_matches('/');
    let logged = crate::eventually("the log explains the problem", crate::TIMEOUT, async || {
        browser.log().await.into_iter().find(|line| line.contains("PinTalk: "))
    });
    let logged = logged.await.replace('\\', "");
    assert!(logged.contains(&format!("Register \"{domain}\"")) && logged.contains("/console/"), "{logged}");
    let nothing = format!("{} == null", Guest::at(".launcher"));
    page.until("the visitor is not bothered", &nothing).await;

    // The page can send messages after the host has registered its domain.
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    host.press("Settings").await;
    host.page.paste("document.querySelector('#field-serviceDomain')", &format!(",{domain}")).await;
    host.page.click("[...document.querySelectorAll('.card')][1].querySelector('.button')").await;
    host.page.until("it is saved", "document.querySelector('#toasts p')").await;
    let guest = Guest::visit(page, &stranger).await;
    guest.send_text("now I am heard").await;
    guest.sees(&["me: now I am heard"]).await;
    site.close().await;
}

/// Process of `pintalk demo`, which is stopped on drop.
struct Demo(Child);

impl Demo {
    fn start() -> (Self, String) {
        use std::io::BufRead as _;
        let mut command = Command::new(env!("CARGO_BIN_EXE_pintalk"));
        command.args(["demo", "--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut demo = Self(command.spawn().expect("the program"));
        let output = demo.0.stdout.take().expect("its output");
        let mut printed = std::io::BufReader::new(output).lines().map_while(Result::ok);
        let page = printed.find_map(|line| Some(line.trim().strip_prefix("page")?.trim().to_owned()));
        // Reads the output of the process, because a full pipe would block it.
        std::thread::spawn(move || printed.for_each(drop));
        (demo, page.expect("the address of the page"))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Sends SIGTERM instead of SIGKILL, so that the process deletes its directory.
        let _signalled = Command::new("kill").arg(self.0.id().to_string()).status();
        let _gone = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn demo_shows_both_sides_and_reports_events() {
    let (_demo, url) = tokio::task::spawn_blocking(Demo::start).await.expect("a demo");
    let browser = Browser::start("en-US").await;
    let page = browser.first_page().await;
    page.resize(1440, 810, false).await;
    page.visit(&url).await;
    let in_console =
        |selector: &str| format!("document.querySelector('.console').contentDocument?.querySelector('{selector}')");
    page.until("the host is logged in", &in_console(".me .dot.on")).await;
    page.click("document.querySelector('#ask')").await;
    let guest = Guest { page: page.clone() };
    guest.send_text("Hello! Can the sand bowl go into the dishwasher?").await;
    page.until("the conversation opens by itself", &in_console(".conversation .bubble")).await;
    page.enter_frame().await;
    let host = Host { page: page.clone() };
    host.send_text("It can: it is fired twice for exactly that.").await;
    host.sees(&[
        "they: Hello! Can the sand bowl go into the dishwasher?",
        "me: It can: it is fired twice for exactly that.",
    ])
    .await;
    page.leave_frame().await;
    let node = url.trim_start_matches("http://").trim_end_matches("/demo");
    let line = format!("/^Node {node} stored message 2 of the host .* ms, on the guest’s screen after [0-9.]+ ms$/");
    page.until("the line shows the event", &format!("{line}.test(document.querySelector('#happened').textContent)"))
        .await;
    guest.send_text("Wonderful, then I take two.").await;
    page.until("the console has it", &format!("{}.textContent.includes('then I take two')", in_console(".talk"))).await;
    guest.page.until("it was read", &format!("{}.textContent.includes('Read')", Guest::at(".talk"))).await;
    is_accessible(&page, "the demo").await;
    keep_picture(&page, "demo").await;
    page.prefer("dark").await;
    is_accessible(&page, "the demo in the dark").await;
    keep_picture(&page, "demo-dark").await;
    page.resize(390, 780, true).await;
    keep_picture(&page, "demo-phone").await;
    page.press("Escape").await;
    keep_picture(&page, "demo-phone-shop").await;
    page.click("document.querySelectorAll('.switch-sides button')[1]").await;
    page.until("the console is there", "document.querySelector('.console').offsetWidth === innerWidth").await;
    keep_picture(&page, "demo-phone-console").await;
    no_complaints(&browser).await;
}
