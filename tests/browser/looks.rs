//! How it looks and to whom: on a phone, in the dark, to who sees nothing, and to the developer whose page is not registered.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::browser::{Browser, Page};
use crate::people::{Guest, Host};
use crate::site::{Site, keep_picture};
use crate::talk::no_complaints;

/// Nothing that axe-core finds may be worse than these.
const HARMLESS: [&str; 2] = ["minor", "moderate"];

/// Fails at what a person with another sense than sight, or with a keyboard alone, would stumble over.
async fn is_accessible(page: &Page, what: &str) {
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
async fn nobody_is_shut_out_by_light_or_dark_large_or_small_or_a_screen_reader() {
    let site = Site::embedded().await;
    let browser = Browser::start("ko-KR").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.say("Hello, do you ship to Jeju?").await;
    host.choose_first().await;
    host.say("We do, within three days.").await;
    guest.sees(&["me: Hello, do you ship to Jeju?", "they: We do, within three days."]).await;
    for scheme in ["light", "dark"] {
        guest.page.prefer(scheme).await;
        is_accessible(&guest.page, "the widget").await;
        host.page.prefer(scheme).await;
        is_accessible(&host.page, "a conversation").await;
    }
    keep_picture(&host.page, "console-dark").await;

    // On a phone the panel is the whole screen, and the console one thing at a time.
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
    host.page.click("document.querySelector('.conversation .narrow')").await;
    host.page.until("the list is back", "document.querySelector('nav').offsetWidth === innerWidth").await;
    is_accessible(&host.page, "the list on a phone").await;
    host.page.click("document.querySelectorAll('.me .tool')[0]").await;
    host.page.until("the settings are there", "document.querySelector('.switch input')").await;
    let wide = host.page.run("return document.documentElement.scrollWidth > innerWidth", &json!([])).await;
    assert_eq!(wide, false, "the settings are wider than a phone");
    is_accessible(&host.page, "the settings").await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_not_registered_is_refused_and_its_developer_told_what_to_do() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let page = browser.first_page().await;
    // The same page under another name is another origin.
    let stranger = site.shop.url().replace("127.0.0.1", "localhost");
    page.visit(&stranger).await;
    let domain = stranger.trim_start_matches("http://").trim_end_matches('/');
    let told = crate::eventually("the developer is told", crate::PATIENCE, async || {
        browser.log().await.into_iter().find(|line| line.contains("PinTalk: "))
    });
    let told = told.await.replace('\\', "");
    assert!(told.contains(&format!("Register \"{domain}\"")) && told.contains("/console/"), "{told}");
    let nothing = format!("{} == null", Guest::at(".launcher"));
    page.until("the visitor is not bothered", &nothing).await;

    // Once it is registered, the same page talks.
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    host.press("Settings").await;
    host.page.paste("document.querySelector('#field-serviceDomain')", &format!(",{domain}")).await;
    host.page.click("[...document.querySelectorAll('.card')][1].querySelector('.button')").await;
    host.page.until("it is saved", "document.querySelector('#toasts p')").await;
    let guest = Guest::visit(page, &stranger).await;
    guest.say("now I am heard").await;
    guest.sees(&["me: now I am heard"]).await;
    site.close().await;
}

/// `pintalk demo`, which ends with this value.
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
        // It goes on to speak, and somebody must listen.
        std::thread::spawn(move || printed.for_each(drop));
        (demo, page.expect("the address of the page"))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // In order, so that its directory goes with it.
        let _told = Command::new("kill").arg(self.0.id().to_string()).status();
        let _gone = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_shows_both_sides_and_says_what_happens() {
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
    guest.say("Hello! Can the sand bowl go into the dishwasher?").await;
    page.until("the conversation opens by itself", &in_console(".conversation .bubble")).await;
    page.enter_frame().await;
    let host = Host { page: page.clone() };
    host.say("It can: it is fired twice for exactly that.").await;
    host.sees(&[
        "they: Hello! Can the sand bowl go into the dishwasher?",
        "me: It can: it is fired twice for exactly that.",
    ])
    .await;
    page.leave_frame().await;
    let node = url.trim_start_matches("http://").trim_end_matches("/demo");
    let line = format!("/^Node {node} stored message 2 of the host .* ms, on the guest’s screen after [0-9.]+ ms$/");
    page.until("the line tells of it", &format!("{line}.test(document.querySelector('#happened').textContent)")).await;
    guest.say("Wonderful, then I take two.").await;
    page.until("the console has it", &format!("{}.textContent.includes('then I take two')", in_console(".talk"))).await;
    guest.page.until("it was read", &format!("{}.textContent.includes('Read')", Guest::at(".talk"))).await;
    is_accessible(&page, "the demo").await;
    keep_picture(&page, "demo").await;
    no_complaints(&browser).await;
}
