//! Tests the widget on pages with aggressive style sheets. Its text stays legible, and its launcher stays visible and
//! usable.

use serde_json::json;

use crate::browser::{Browser, Page};
use crate::people::{Guest, Host};
use crate::shop::{Reply, page};
use crate::site::Site;

/// Script that returns the computed styles of all elements of the widget. A style sheet of the page must not change
/// these styles.
const LOOK: &str = "const root = document.querySelector('pintalk-widget').shadowRoot; \
    const names = ['color', 'backgroundColor', 'fontSize', 'fontStyle', 'lineHeight', 'letterSpacing', 'wordSpacing', 'textTransform', 'textIndent', \
      'textAlign', 'textShadow', 'visibility', 'opacity', 'pointerEvents', 'userSelect', 'cursor', 'direction', 'writingMode', 'display', 'position', \
      'borderRadius', 'borderTopWidth', 'paddingTop', 'boxShadow', 'animationName', 'transitionDuration', 'whiteSpace', 'filter', \
      'overflowX', 'maxWidth', 'webkitTextFillColor', 'webkitTextStrokeWidth', 'fontVariantCaps', 'fontWeight', 'float', 'listStyleType']; \
    return [...root.querySelectorAll('*')].filter((one) => one.localName !== 'style' && !one.closest('svg')).map((one) => { \
      const style = getComputedStyle(one); const { width, height } = one.getBoundingClientRect(); \
      return [one.localName + '.' + one.className, Math.round(width), Math.round(height), ...names.map((name) => `${name}: ${style[name]}`)].join('; ') })";

/// Returns a JavaScript expression that is true if a part of the widget is in the viewport and not covered.
fn is_in_view(selector: &str) -> String {
    format!(
        "(() => {{ const part = {}; if (!part) return false; const {{ left, top, right, bottom, width, height }} = part.getBoundingClientRect(); \
         if (!width || left < 0 || top < 0 || right > innerWidth || bottom > innerHeight) return false; \
         const hit = document.elementFromPoint((left + right) / 2, (top + bottom) / 2); \
         return hit?.localName === 'pintalk-widget' }})()",
        Guest::at(selector)
    )
}

/// Names and content of style sheets that pages may have.
const SHEETS: [(&str, &str); 37] = [
    ("white text", "* { color: #fff }"),
    ("white text, important", "* { color: #fff !important; background: #fff !important }"),
    ("62.5%", "* { font-size: 62.5% }"),
    ("html 62.5%", "html { font-size: 62.5% }"),
    ("html 2px", "html { font-size: 2px !important; line-height: 0 !important }"),
    ("relative children", "body > * { position: relative }"),
    ("relative children, important", "body > * { position: relative !important; z-index: 0 !important }"),
    ("only the app", "body > *:not(#app) { display: none }"),
    ("only the app, important", "body > *:not(#app) { display: none !important }"),
    ("only the app, by html", "html > *:not(head):not(body) { display: none !important }"),
    ("transform", "body { transform: translateZ(0) }"),
    ("filter", "body { filter: grayscale(1) }"),
    ("transformed root", "html { transform: translateZ(0) } body { height: 3000px }"),
    ("contained root", "html { contain: paint; perspective: 100px } body { height: 3000px }"),
    (
        "registered variables",
        "@property --offset { syntax: '<percentage>'; inherits: true; initial-value: 90% } \
         @property --surface { syntax: '<color>'; inherits: false; initial-value: transparent }",
    ),
    ("perspective", "body { perspective: 500px }"),
    ("contain", "body { contain: strict; height: 3000px }"),
    ("will-change", "body { will-change: transform }"),
    ("backdrop", "body { backdrop-filter: blur(2px); overflow: hidden; height: 100px }"),
    ("container", "body { container-type: size; height: 2000px }"),
    ("html filter", "html { filter: invert(1) hue-rotate(180deg) } body { height: 4000px }"),
    (
        "variables",
        "* { --line: red; --radius: 0; --surface: red; --ink: red; --accent: red; --raised: red; --faint: red; --offset: 900px; --on-accent: red; --danger: red; --online: red; --shade: red }",
    ),
    (
        "variables of root",
        ":root { --line: red; --radius: 0; --surface: red; --ink: red; --accent: red; --raised: red; --offset: 900px; --danger: red }",
    ),
    (
        "everything",
        "body, body *, html > * { line-height: 0; letter-spacing: 1em; text-transform: uppercase; visibility: hidden; opacity: .1; pointer-events: none; transition: all 5s; \
                   animation: spin 5s infinite; word-spacing: 2em; text-indent: -999px; text-shadow: 0 0 9px red; cursor: none; user-select: none } \
                   @keyframes spin { to { transform: rotate(1turn) } }",
    ),
    (
        "everything, important",
        "body *, html > *:not(body) { line-height: 0 !important; letter-spacing: 1em !important; text-transform: uppercase !important; visibility: hidden !important; \
                              opacity: .1 !important; pointer-events: none !important; float: left !important; position: static !important; \
                              transform: scale(.1) !important; width: 1px !important; height: 1px !important; margin: 99px !important; clip-path: inset(50%) !important; \
                              zoom: .2 !important; mask: linear-gradient(transparent, transparent) !important; inset: auto !important; max-width: 1px !important; \
                              content-visibility: hidden !important; overflow: hidden !important; -webkit-text-fill-color: white !important; translate: -5000px !important; \
                              rotate: 90deg !important; scale: .1 !important; filter: opacity(0) !important; direction: rtl !important; writing-mode: vertical-rl !important; \
                              padding: 99px !important; border: 9px solid red !important; z-index: -1 !important; bottom: -5000px !important }",
    ),
    ("revert", "* { all: revert !important }"),
    ("unset", "* { all: unset !important }"),
    ("initial", "body * { all: initial }"),
    ("hosts", "pintalk-widget, :not(:defined), :has(> *) { color: red }  * { font: 3px/0 serif }"),
    ("rtl", "html { direction: rtl } * { direction: rtl; text-align: right; writing-mode: vertical-rl }"),
    ("hidden until loaded", "body { visibility: hidden; opacity: 0 }"),
    ("no selection", "html { user-select: none; -webkit-user-select: none; cursor: none; pointer-events: none }"),
    ("scroll", "html, body { height: 100%; overflow: hidden } body { overflow-y: scroll; position: fixed; inset: 0 }"),
    (
        "flex body",
        "body { display: flex; flex-direction: column; gap: 99px; height: 100vh } body > * { flex: 1; max-width: 10px }",
    ),
    ("zoomed body", "body { zoom: 0.5 }"),
    ("dark", "html { color-scheme: dark; filter: none } * { scrollbar-width: none }"),
    (
        "parts",
        "*::before, *::after { content: 'x' !important; position: fixed; inset: 0; background: red; z-index: 1 } ::placeholder { color: transparent } ::selection { color: transparent }",
    ),
];

async fn look(page: &Page) -> Vec<String> {
    serde_json::from_value(page.run(LOOK, &json!([])).await).expect("looks")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn style_sheets_of_the_page_change_nothing_in_the_widget() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let guest = Guest { page: browser.first_page().await };
    guest.page.prefer("light").await;
    let node = site.nodes[0].url("");
    let show = |path: &str, sheet: &str| {
        let body = format!("<div id=\"app\"><h1>Shop</h1></div>{}", site.tag(&node));
        site.shop.serve(path, Reply::html(&page("Shop", &format!("<style>{sheet}</style>"), &body)));
        format!("{}{}", site.shop.url(), &path[1..])
    };
    guest.page.visit(&show("/plain", "")).await;
    // The panel is opened without the pointer, which would hover over the launcher and change its style.
    guest.show().await;
    guest.send_text("Hello https://shop.example/a").await;
    guest.sees(&["me: Hello https://shop.example/a"]).await;
    guest.page.until("the host is away", &format!("{}?.textContent", Guest::at(".presence"))).await;
    let plain = look(&guest.page).await;
    assert!(plain.len() > 15, "{plain:#?}");
    let mut changed = Vec::new();
    for (at, (name, sheet)) in SHEETS.iter().enumerate() {
        guest.page.visit(&show(&format!("/sheet{at}"), sheet)).await;
        let settled = format!("{}?.textContent && {}", Guest::at(".presence"), Guest::at(".bubble"));
        if !becomes(&guest.page, &settled).await {
            changed.push(format!("{name}: the widget is not there"));
            continue;
        }
        let now = look(&guest.page).await;
        for (before, after) in plain.iter().zip(&now).filter(|(before, after)| before != after).take(3) {
            let differs = before.split("; ").zip(after.split("; ")).filter(|(one, other)| one != other);
            let differs: Vec<String> = differs.map(|(one, other)| format!("{one} -> {other}")).collect();
            changed.push(format!("{name}: {}: {}", before.split(';').next().unwrap_or_default(), differs.join(", ")));
        }
        for part in [".send", ".launcher", "textarea", ".bubble"] {
            if !becomes(&guest.page, &is_in_view(part)).await {
                changed.push(format!("{name}: {part} is not in view"));
            }
        }
        if !changed.iter().any(|change| change.starts_with(name)) {
            guest.page.click(&Guest::at(".launcher")).await;
            guest.page.until(name, &format!("{}.hidden", Guest::at(".panel"))).await;
            if !becomes(&guest.page, &is_in_view(".launcher")).await {
                changed.push(format!("{name}: the launcher of the closed panel is not in view"));
            }
            guest.page.click(&Guest::at(".launcher")).await;
        }
        guest.page.run("document.querySelector('pintalk-widget')?.toggle(true)", &json!([])).await;
    }
    assert!(changed.is_empty(), "{}", changed.join("\n"));
    site.close().await;
}

/// Returns whether a JavaScript expression becomes true within 3 s.
async fn becomes(page: &Page, expression: &str) -> bool {
    let script = format!("return Boolean({expression})");
    let seen = async || page.run(&script, &json!([])).await.as_bool().filter(|is| *is);
    let asking = async {
        while seen().await.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(3), asking).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn widget_stays_usable_above_dialogs_and_scrolled_pages() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let node = site.nodes[0].url("");
    let body = format!(
        "<div id=\"app\" style=\"height: 5000px\"><h1>Shop</h1></div>\
         <div style=\"position: fixed; inset: 0; z-index: 2147482999; background: #0008\"></div>{}",
        site.tag(&node)
    );
    site.shop.serve("/covered", Reply::html(&page("Shop", "<style>body { transform: scale(1) }</style>", &body)));
    let guest = Guest::visit(browser.first_page().await, &format!("{}covered", site.shop.url())).await;
    guest.page.run("scrollTo(0, 3000)", &json!([])).await;
    guest.page.until("the launcher stays in view", &is_in_view(".launcher")).await;
    guest.send_text("above the cover").await;
    host.choose_first().await;
    host.sees(&["they: above the cover"]).await;
    site.close().await;
}
