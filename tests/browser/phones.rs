//! Tests touch devices. The page does not zoom, and the input stays above the keyboard. Swipes scroll the part under
//! the finger, and touch targets are large enough.

use serde_json::{Value, json};

use crate::browser::{Browser, ESCAPE, Page};
use crate::people::{Guest, Host};
use crate::shop::{Reply, page};
use crate::site::{Site, keep_picture};

/// Names and sizes of the screens of touch devices, in CSS pixels.
const SCREENS: [(&str, u32, u32); 7] = [
    ("iPhone SE", 320, 568),
    ("iPhone", 390, 844),
    ("iPhone, landscape", 844, 390),
    ("iPhone SE, landscape", 568, 320),
    ("iPad", 820, 1180),
    ("iPad, landscape", 1180, 820),
    ("Android", 412, 915),
];

/// Returns a JavaScript expression whose value lists the selector and the text size of each input whose text is smaller
/// than 16 px. Browsers zoom when such an input is focused.
fn small_inputs(root: &str) -> String {
    format!(
        "[...{root}.querySelectorAll('input:not([type=checkbox], [type=radio], [type=file]), textarea, select, [contenteditable]')] \
         .filter((one) => one.checkVisibility() && parseFloat(getComputedStyle(one).fontSize) < 16) \
         .map((one) => `${{one.localName}}#${{one.id}}.${{one.className}} ${{getComputedStyle(one).fontSize}}`)"
    )
}

/// Returns a JavaScript expression whose value lists buttons, links and inputs that are smaller than 44 px, even if
/// they are out of view. Links in messages are excluded.
fn small_targets(root: &str) -> String {
    format!(
        "[...{root}.querySelectorAll('button, a[href]:not(.bubble a), select, summary, label.switch, input, textarea, [role=button]')] \
         .filter((one) => one.checkVisibility() && one.type !== 'hidden').map((one) => {{ \
           const target = one.closest('label') ?? one; const {{ width, height }} = target.getBoundingClientRect(); \
           return [Math.round(Math.min(width, height) * 10) / 10, `${{one.localName}}.${{one.className}} ${{one.ariaLabel ?? one.textContent.slice(0, 20)}}`] }}) \
         .filter(([size]) => size > 0 && size < 44)"
    )
}

/// JavaScript expression for the shadow root of the widget.
const WIDGET: &str = "document.querySelector('pintalk-widget').shadowRoot";

/// Returns the edges of a part of the widget in the order left, top, right, bottom.
async fn edges(page: &Page, selector: &str) -> [f64; 4] {
    let edges = format!(
        "const {{ left, top, right, bottom }} = {}.getBoundingClientRect(); return [left, top, right, bottom]",
        Guest::at(selector)
    );
    serde_json::from_value(page.run(&edges, &json!([])).await).expect("edges")
}

async fn middle(page: &Page, selector: &str) -> (f64, f64) {
    let [left, top, right, bottom] = edges(page, selector).await;
    (f64::midpoint(left, right), f64::midpoint(top, bottom))
}

/// Serves a page that is longer than any screen, and returns its URL.
fn long_page(site: &Site) -> String {
    let body = format!("<main style=\"height: 6000px\"><h1>Shop</h1></main>{}", site.tag(&site.nodes[0].url("")));
    site.shop.serve("/long", Reply::html(&page("Shop", "", &body)));
    format!("{}long", site.shop.url())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_and_targets_of_the_widget_are_large_enough_on_every_touch_device() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let page = browser.first_page().await;
    page.be_touch_device(390, 844).await;
    let guest = Guest::visit(page, &long_page(&site)).await;
    assert_eq!(guest.page.value("matchMedia('(any-pointer: coarse)').matches").await, true, "it is a touch device");
    guest.send_text("hello https://shop.example/").await;
    guest.sees(&["me: hello https://shop.example/"]).await;
    let mut wrong = Vec::new();
    for (name, width, height) in SCREENS {
        guest.page.be_touch_device(width, height).await;
        guest.page.until(name, &format!("innerWidth === {width} && innerHeight === {height}")).await;
        for (what, found) in [("text", small_inputs(WIDGET)), ("target", small_targets(WIDGET))] {
            let found = guest.page.value(&found).await;
            if found.as_array().is_none_or(|found| !found.is_empty()) {
                wrong.push(format!("{name}: {what}: {found}"));
            }
        }
        // The whole panel, its input and some messages are visible.
        let [left, top, right, bottom] = edges(&guest.page, ".panel").await;
        let (inner, outer) = (f64::from(width), f64::from(height));
        if left < 0.0 || top < 0.0 || right > inner || bottom > outer {
            wrong.push(format!("{name}: the panel is at {left}, {top}, {right}, {bottom}"));
        }
        let [_, above, _, below] = edges(&guest.page, ".talk").await;
        if below - above < 60.0 {
            wrong.push(format!("{name}: {} px for messages", below - above));
        }
        keep_picture(&guest.page, &format!("widget-{}", name.replace([',', ' '], "-").to_lowercase())).await;
    }
    // Closes the panel and checks the launcher.
    guest.page.keys(&Guest::at("textarea"), ESCAPE).await;
    guest.page.until("it is closed", &format!("{}.hidden", Guest::at(".panel"))).await;
    let found = guest.page.value(&small_targets(WIDGET)).await;
    if found != json!([]) {
        wrong.push(format!("closed: {found}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_and_targets_of_the_console_are_large_enough_on_every_touch_device() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    site.send_text(&site.open_room(&reqwest::Client::new()).await, &["hello"]).await;
    let page = browser.first_page().await;
    page.be_touch_device(820, 1180).await;
    page.visit(&site.nodes[0].url("/console/")).await;
    page.until("the form is there", "document.querySelector('#field-email')").await;
    let mut wrong = Vec::new();
    let check = async |page: &Page, place: &str, wrong: &mut Vec<String>| {
        for (name, width, height) in SCREENS {
            page.be_touch_device(width, height).await;
            page.until(name, &format!("innerWidth === {width}")).await;
            for (what, found) in [("text", small_inputs("document")), ("target", small_targets("document"))] {
                let found = page.value(&found).await;
                if found.as_array().is_none_or(|found| !found.is_empty()) {
                    wrong.push(format!("{place}, {name}: {what}: {found}"));
                }
            }
        }
    };
    check(&page, "sign-in", &mut wrong).await;
    page.be_touch_device(820, 1180).await;
    let host = Host::sign_in(page, &site.nodes[0].url("/console/")).await;
    host.page.until("the list is there", "document.querySelector('.rooms .room')").await;
    check(&host.page, "list", &mut wrong).await;
    host.page.be_touch_device(820, 1180).await;
    host.choose_first().await;
    check(&host.page, "conversation", &mut wrong).await;
    host.page.be_touch_device(820, 1180).await;
    host.press("Settings").await;
    host.page.until("the settings are there", "document.querySelector('.switch input')").await;
    check(&host.page, "settings", &mut wrong).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swipes_on_the_panel_do_not_scroll_the_page_behind_it() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let page = browser.first_page().await;
    page.be_touch_device(390, 844).await;
    let guest = Guest::visit(page, &long_page(&site)).await;
    for at in 0..30 {
        guest.send_text(&format!("message {at}")).await;
    }
    guest
        .page
        .until("all are shown", &format!("{}.querySelectorAll('.bubble').length === 30", Guest::at(".talk")))
        .await;
    for (name, width, height) in [("iPhone", 390, 844), ("landscape", 844, 390), ("iPad", 820, 1180)] {
        guest.page.be_touch_device(width, height).await;
        guest.page.until(name, &format!("innerWidth === {width}")).await;
        guest.page.run("scrollTo(0, 1000)", &json!([])).await;
        for part in ["header", "textarea", "form", ".notice", ".send"] {
            let (x, y) = middle(&guest.page, part).await;
            for distance in [200.0, -200.0] {
                guest.page.swipe(x, y, distance).await;
                let scrolled = guest.page.number("scrollY").await;
                assert!(
                    (scrolled - 1000.0).abs() < 1.0,
                    "{name}: a swipe by {distance} on {part} scrolls the page to {scrolled}"
                );
            }
        }
        // Swipes scroll the messages. They do not scroll the page, even at the end of the messages.
        let (x, y) = middle(&guest.page, ".talk").await;
        let top = format!("{}.scrollTop", Guest::at(".talk"));
        let before = guest.page.number(&top).await;
        guest.page.swipe(x, y, 150.0).await;
        guest.page.until(&format!("{name}: the messages scroll"), &format!("{top} < {before}")).await;
        for distance in [4000.0, 300.0, -6000.0, -300.0] {
            guest.page.swipe(x, y, distance).await;
        }
        let scrolled = guest.page.number("scrollY").await;
        assert!((scrolled - 1000.0).abs() < 1.0, "{name}: the page scrolls to {scrolled} at the end of the messages");
    }
    // While the panel is closed, swipes scroll the page.
    guest.page.be_touch_device(390, 844).await;
    guest.page.run("document.querySelector('pintalk-widget').toggle(false)", &json!([])).await;
    guest.page.until("it is closed", &format!("{}.hidden", Guest::at(".panel"))).await;
    guest.page.swipe(195.0, 500.0, -200.0).await;
    guest.page.until("the page scrolls", "scrollY > 1100").await;
    site.close().await;
}

/// Simulates an on-screen keyboard that covers `covered` pixels. As in Safari, the visual viewport shrinks and is
/// scrolled by `offset`.
async fn show_keyboard(page: &Page, covered: u32, offset: u32) {
    let script = "const [covered, offset] = arguments; const height = innerHeight - covered; \
        const values = { height: () => height, offsetTop: () => offset, pageTop: () => scrollY + offset }; \
        for (const [name, get] of Object.entries(values)) Object.defineProperty(visualViewport, name, { get, configurable: true }); \
        for (const type of ['resize', 'scroll']) visualViewport.dispatchEvent(new Event(type)); \
        return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))";
    page.run(script, &json!([covered, offset])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_stays_above_the_keyboard_and_clear_of_the_home_indicator() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let page = browser.first_page().await;
    page.be_touch_device(390, 844).await;
    let guest = Guest::visit(page, &long_page(&site)).await;
    for at in 0..20 {
        guest.send_text(&format!("message {at}")).await;
    }
    for (name, width, height, covered, offset) in [
        ("iPhone", 390, 844, 336, 0),
        ("iPhone, scrolled by Safari", 390, 844, 336, 120),
        ("landscape", 844, 390, 200, 0),
        ("iPad", 820, 1180, 400, 0),
        ("iPad, landscape", 1180, 820, 420, 0),
    ] {
        guest.page.be_touch_device(width, height).await;
        guest.page.until(name, &format!("innerWidth === {width}")).await;
        guest.page.click(&Guest::at("textarea")).await;
        show_keyboard(&guest.page, covered, offset).await;
        let (first, last) = (f64::from(offset), f64::from(height - covered + offset));
        for part in ["textarea", ".send", "header"] {
            let [_, top, _, bottom] = edges(&guest.page, part).await;
            assert!(
                top >= first - 1.0 && bottom <= last + 1.0,
                "{name}: {part} is at {top} to {bottom}, visible is {first} to {last}"
            );
        }
        // The newest message is visible above the keyboard.
        let newest = format!(
            "[...{WIDGET}.querySelectorAll('.bubble')].at(-1).getBoundingClientRect().bottom <= {}.getBoundingClientRect().bottom + 1",
            Guest::at(".talk")
        );
        guest.page.until(&format!("{name}: the newest message is in sight"), &newest).await;
        // The input stays in the visible area even if it contains a long draft.
        guest.page.paste(&Guest::at("textarea"), &"a line\n".repeat(20)).await;
        let [_, top, _, bottom] = edges(&guest.page, "textarea").await;
        assert!(top >= first && bottom <= last + 1.0, "{name}: a long draft is at {top} to {bottom}");
        guest
            .page
            .run(
                &format!(
                    "const field = {}; field.value = ''; field.dispatchEvent(new Event('input'))",
                    Guest::at("textarea")
                ),
                &json!([]),
            )
            .await;
        show_keyboard(&guest.page, 0, 0).await;
        let [.., bottom] = edges(&guest.page, ".panel").await;
        assert!(
            bottom <= f64::from(height) + 1.0 && bottom > f64::from(height) - 110.0,
            "{name}: without keyboard it ends at {bottom}"
        );
    }

    // By default, the emulated device has no notch and no home indicator, so the test sets their insets.
    guest.page.be_touch_device(390, 844).await;
    let [.., before] = edges(&guest.page, "form").await;
    let areas = json!({"insets": {"top": 47, "topMax": 47, "left": 0, "leftMax": 0, "bottom": 34, "bottomMax": 34, "right": 0, "rightMax": 0}});
    guest.page.chromium("Emulation.setSafeAreaInsetsOverride", areas).await;
    let clear = format!("{}.getBoundingClientRect().bottom <= {}", Guest::at("form"), before.min(844.0 - 34.0));
    guest.page.until("the input is clear of the home indicator", &clear).await;
    let [_, top, ..] = edges(&guest.page, ".name").await;
    assert!(top >= 47.0, "the header is under the notch");
    guest.page.run("document.querySelector('pintalk-widget').toggle(false)", &json!([])).await;
    guest.page.until("it is closed", &format!("{}.hidden", Guest::at(".panel"))).await;
    let [.., bottom] = edges(&guest.page, ".launcher").await;
    assert!(bottom <= 844.0 - 34.0, "the launcher is under the home indicator");
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn phone_is_usable_by_taps_only_and_focus_opens_no_keyboard() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let page = browser.first_page().await;
    page.be_touch_device(390, 844).await;
    page.visit(&long_page(&site)).await;
    page.until("the launcher is there", &Guest::at(".launcher")).await;
    let (x, y) = middle(&page, ".launcher").await;
    page.tap(x, y).await;
    page.until("the panel is open", &format!("{}?.hidden === false", Guest::at(".panel"))).await;
    let focused = page.value(&format!("{WIDGET}.activeElement?.localName")).await;
    assert_ne!(focused, Value::from("textarea"), "the keyboard covers what a guest would read first");
    let (x, y) = middle(&page, "textarea").await;
    page.tap(x, y).await;
    page.until("the input has the focus", &format!("{WIDGET}.activeElement?.localName === 'textarea'")).await;
    page.type_keys("tapped").await;
    let (x, y) = middle(&page, ".send").await;
    page.tap(x, y).await;
    let guest = Guest { page };
    guest.sees(&["me: tapped"]).await;
    host.choose_first().await;
    host.sees(&["they: tapped"]).await;
    let focused = guest.page.value(&format!("{WIDGET}.activeElement?.localName")).await;
    assert_eq!(focused, "textarea", "sending closes the keyboard");
    assert_eq!(guest.page.number("visualViewport.scale").await, 1.0, "the page is zoomed in");
    site.close().await;
}
