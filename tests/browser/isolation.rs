//! Tests that the page does not receive the widget's events, and that the widget works on pages whose scripts replace
//! globals.

use serde_json::json;

use crate::browser::{Browser, ESCAPE};
use crate::people::{Guest, Host};
use crate::shop::{Reply, page};
use crate::site::Site;

/// Script with keyboard shortcuts as on webmail and code hosting pages. The shortcuts react to letters and prevent
/// their input.
const SHORTCUTS: &str = "window.fired = []; const places = [[window, false]]; \
    for (const target of [document, document.documentElement]) for (const capture of [false, true]) places.push([target, capture]); \
    if (window.isFirst) places.push([window, true]); \
    for (const [target, capture] of places) for (const type of ['keydown', 'keypress', 'keyup']) target.addEventListener(type, (event) => { \
        const { tagName, isContentEditable } = event.target; \
        if (['INPUT', 'TEXTAREA', 'SELECT'].includes(tagName) || isContentEditable) return; \
        if ('sk/?gm'.includes(event.key)) { window.fired.push(`${type} ${event.key}`); event.preventDefault(); event.stopPropagation(); } \
      }, capture);";

/// Script that records the type of every event that the page receives from the widget.
const RECORD_EVENTS: &str = "window.received = []; \
    for (const target of [window, document, document.documentElement, document.body]) for (const type of arguments[0]) \
      target.addEventListener(type, (event) => { \
        if (event.composedPath().some((one) => one.localName === 'pintalk-widget')) window.received.push(type); });";

/// Types of keyboard, focus, pointer and clipboard events.
const EVENTS: &[&str] = &[
    "keydown",
    "keypress",
    "keyup",
    "beforeinput",
    "input",
    "change",
    "focus",
    "blur",
    "focusin",
    "focusout",
    "click",
    "dblclick",
    "auxclick",
    "contextmenu",
    "mousedown",
    "mouseup",
    "mousemove",
    "mouseover",
    "mouseout",
    "pointerdown",
    "pointerup",
    "pointermove",
    "pointerover",
    "pointerout",
    "touchstart",
    "touchend",
    "wheel",
    "copy",
    "cut",
    "paste",
    "selectstart",
    "submit",
    "dragover",
    "compositionend",
];

/// Code of the Control key in WebDriver.
const CONTROL: &str = "\u{e009}";

async fn typed(guest: &Guest, text: &str) {
    guest.page.click(&Guest::at("textarea")).await;
    guest.page.run(&format!("const field = {}; field.value = ''", Guest::at("textarea")), &json!([])).await;
    guest.page.type_keys(text).await;
    assert_eq!(guest.page.value(&format!("{}.value", Guest::at("textarea"))).await, text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keyboard_shortcuts_of_the_page_do_not_fire_while_a_guest_types() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let node = site.nodes[0].url("");
    let shortcuts = format!("<script>{{ {SHORTCUTS} }}</script>");
    // The page adds its listeners before or after the widget does.
    for (path, head, end) in [
        ("/before", shortcuts.clone(), site.tag(&node)),
        ("/after", site.tag(&node).replace(" async", ""), shortcuts.clone()),
        ("/first", format!("<script>window.isFirst = true</script>{shortcuts}"), site.tag(&node)),
    ] {
        site.shop.serve(path, Reply::html(&page("Shop", &head, &end)));
        let guest = Guest::visit(browser.first_page().await, &format!("{}{}", site.shop.url(), &path[1..])).await;
        if path == "/after" {
            // The shortcuts are added after the widget has started, as a tag manager does.
            guest.page.run(&format!("window.isFirst = true; {SHORTCUTS}"), &json!([])).await;
        }
        typed(&guest, "ask/likes?gm").await;
        // On `/first`, the page has added a capturing listener to the window before the widget starts. Such a listener
        // receives every event.
        if path != "/first" {
            assert_eq!(guest.page.value("window.fired").await, json!([]), "{path}");
        }
        guest.page.press("Enter").await;
        let sent = format!("{}?.textContent.includes('ask/likes?gm')", Guest::at(".talk"));
        guest.page.until("Enter sends it", &sent).await;
        guest.page.press("Escape").await;
        guest.page.until("Escape closes the panel", &format!("{}.hidden", Guest::at(".panel"))).await;
        // The shortcuts still work outside the widget.
        guest.page.run("document.activeElement.blur()", &json!([])).await;
        guest.page.press("s").await;
        assert!(guest.page.number("window.fired.length").await > 0.0, "the page's own shortcuts are dead");
    }
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_keyboard_pointer_focus_or_clipboard_event_leaves_the_widget() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.page.run(RECORD_EVENTS, &json!([EVENTS])).await;
    typed(&guest, "a text").await;
    for keys in ["a", "c", "x", "v"] {
        guest.page.keys(&Guest::at("textarea"), &format!("{CONTROL}{keys}{CONTROL}")).await;
    }
    assert_eq!(guest.page.value(&format!("{}.value", Guest::at("textarea"))).await, "a text", "pasted");
    guest.page.press("Enter").await;
    guest.sees(&["me: a text"]).await;
    guest.page.click(&Guest::at(".bubble")).await;
    guest.page.click(&Guest::at("header")).await;
    let centre = "const { left, top, width, height } = arguments[0].getBoundingClientRect(); \
                  return [left + width / 2, top + height / 2]";
    let pane = guest.page.value(&Guest::at(".talk")).await;
    let at = guest.page.run(centre, &json!([pane])).await;
    for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
        let event = json!({"type": kind, "x": at[0], "y": at[1], "button": "right", "clickCount": 1});
        guest.page.chromium("Input.dispatchMouseEvent", event).await;
    }
    let wheel = json!({"type": "mouseWheel", "x": at[0], "y": at[1], "deltaX": 0, "deltaY": -50});
    guest.page.chromium("Input.dispatchMouseEvent", wheel).await;
    let touch = json!({"type": "touchStart", "touchPoints": [{"x": at[0], "y": at[1]}]});
    guest.page.chromium("Input.dispatchTouchEvent", touch).await;
    guest.page.chromium("Input.dispatchTouchEvent", json!({"type": "touchEnd", "touchPoints": []})).await;
    let compose = json!({"text": "가", "selectionStart": 1, "selectionEnd": 1});
    guest.page.click(&Guest::at("textarea")).await;
    guest.page.chromium("Input.imeSetComposition", compose).await;
    guest.page.chromium("Input.insertText", json!({"text": "가"})).await;
    guest.page.until("it is composed", &format!("{}.value === '가'", Guest::at("textarea"))).await;
    guest.page.keys(&Guest::at("textarea"), ESCAPE).await;
    guest.open().await;
    let received = guest.page.value("[...new Set(window.received)]").await;
    assert_eq!(received, json!([]), "events leave the widget");
    // The page still receives its own events, and the events that the widget emits for the page.
    guest.page.click("document.querySelector('h1')").await;
    guest.page.run("addEventListener('pintalk', ({ detail }) => (window.reported = detail.type))", &json!([])).await;
    guest.send_text("another").await;
    guest.page.until("the page is notified", "window.reported === 'acknowledged'").await;
    guest
        .page
        .run("window.clicks = 0; document.querySelector('h1').addEventListener('click', () => clicks++)", &json!([]))
        .await;
    guest.page.click("document.querySelector('h1')").await;
    assert_eq!(guest.page.number("clicks").await, 1.0);
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_handlers_that_trap_focus_or_cancel_events_do_not_block_the_widget() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let node = site.nodes[0].url("");
    for (name, script) in [
        // This page has a dialog that traps the focus.
        (
            "focus",
            "for (const capture of [true, false]) document.addEventListener('focusin', (event) => { \
                const trap = document.querySelector('h1'); trap.tabIndex = 0; if (!trap.contains(event.target)) trap.focus(); }, capture)",
        ),
        // This page cancels clipboard, selection, mouse and keyboard events.
        (
            "cancel",
            "for (const type of ['copy', 'cut', 'paste', 'contextmenu', 'selectstart', 'dragstart', 'mousedown', 'keydown', 'beforeinput']) \
               for (const capture of [true, false]) document.addEventListener(type, (event) => event.preventDefault(), { capture, passive: false })",
        ),
        (
            "old",
            "document.onkeydown = document.onkeypress = document.onmousedown = document.oncontextmenu = document.onpaste = \
               window.onkeydown = () => false",
        ),
    ] {
        // The script runs after the widget has added its listeners. Listeners that are added earlier could cancel
        // events before the widget receives them.
        let path = format!("/{name}");
        let end = format!("{}<script>addEventListener('load', () => {{ {script} }})</script>", site.tag(&node));
        site.shop.serve(&path, Reply::html(&page("Shop", "", &format!("<main><h1>Shop</h1></main>{end}"))));
        let guest = Guest::visit(browser.first_page().await, &format!("{}{name}", site.shop.url())).await;
        let text = format!("despite {name}");
        typed(&guest, &text).await;
        for keys in ["a", "c", "v"] {
            guest.page.keys(&Guest::at("textarea"), &format!("{CONTROL}{keys}{CONTROL}")).await;
        }
        guest.page.press("Enter").await;
        let newest = "document.querySelector('.rooms .room')?.textContent.includes(arguments[0])";
        host.page.until_with(name, newest, &json!([text])).await;
    }
    site.close().await;
}

/// Scripts that replace globals. The page runs each of them before the widget's script.
const REPLACEMENTS: &[(&str, &str)] = &[
    (
        "enumerable",
        "Object.prototype.extra = function () { return 1 }; Array.prototype.extra = function () { return 1 };",
    ),
    (
        "tojson",
        "const quote = function () { return `\"${this}\"` }; \
             for (const type of [Array, String, Number, Date]) type.prototype.toJSON = quote",
    ),
    (
        "iterators",
        "Array.prototype.entries = Array.prototype.values = Array.prototype.keys = function () { return this }",
    ),
    (
        "searches",
        "const each = (list, call) => { for (let at = 0; at < list.length; at++) if (call(list[at], at)) return list[at] }; \
             Array.prototype.find = Array.prototype.detect = function (call) { return each(this, call) }",
    ),
    (
        "from",
        "Array.from = (list) => { const all = []; for (let at = 0; at < list.length; at++) all.push(list[at]); return all }",
    ),
    (
        "reduces",
        "Array.prototype.reduce = function () { return this.length > 1 ? this : this[0] }; \
             Array.prototype.remove = Array.prototype.clear = Array.prototype.last = Array.prototype.first = function () { return this }",
    ),
    (
        "prototype-like",
        "Element.prototype.remove = function () { return this.parentNode.removeChild(this) }; \
             Element.prototype.update = Element.prototype.show = Element.prototype.hide = function () { this.style.display = ''; return this }; \
             String.prototype.startsWith = function (text) { return this.lastIndexOf(text, 0) === 0 }; \
             Function.prototype.bind = function (self, ...first) { const call = this; return function (...more) { return call.apply(self, [...first, ...more]) } }; \
             Event.prototype.stop = function () { this.preventDefault(); this.stopPropagation() }",
    ),
    (
        "tracing",
        "const { fetch } = window; window.fetch = (url, sent = {}) => { const headers = new Headers(sent.headers); \
             for (const [name, value] of [['sentry-trace', '4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1'], ['baggage', 'sentry-trace_id=4bf9'], \
               ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'], ['tracestate', 'a=b']]) headers.set(name, value); \
             window.traced = (window.traced ?? 0) + 1; return fetch(url, { ...sent, headers }) }",
    ),
    (
        "tracing-vendors",
        "const { fetch } = window; window.fetch = (url, sent = {}) => { const request = new Request(url, sent); \
             for (const [name, value] of [['x-datadog-trace-id', '1'], ['x-datadog-parent-id', '2'], ['x-datadog-origin', 'rum'], \
               ['x-datadog-sampling-priority', '1'], ['newrelic', 'x'], ['elastic-apm-traceparent', '00-1-2-01'], ['b3', '0'], \
               ['x-b3-traceid', '1'], ['request-id', '|1.2'], ['x-requested-with', 'XMLHttpRequest'], ['uber-trace-id', '1:2:0:1']]) \
               request.headers.set(name, value); \
             return fetch(request) }",
    ),
    (
        "promises",
        "const Native = Promise; window.Promise = class extends Native { static get [Symbol.species]() { return Native } }; \
             window.Promise.prototype.done = function () { return this }",
    ),
    (
        "sockets",
        "const Native = WebSocket; window.WebSocket = function (url, protocols) { \
               const socket = protocols === undefined ? new Native(url) : new Native(url, protocols); return socket }; \
             window.WebSocket.prototype = Native.prototype",
    ),
    (
        "json",
        "const { parse, stringify } = JSON; window.JSON = { parse: (text) => parse(String(text)), stringify: (value, ...more) => stringify(value, ...more) }",
    ),
    (
        "xhr-fetch",
        "window.fetch = (url, { method = 'GET', headers = {}, body } = {}) => new Promise((resolve, reject) => { \
               const call = new XMLHttpRequest(); call.open(method, url); \
               for (const [name, value] of Object.entries(headers)) call.setRequestHeader(name, value); \
               call.onerror = () => reject(new TypeError('failed')); \
               call.onload = () => resolve(new Response(call.status === 204 ? null : call.responseText, { status: call.status })); call.send(body) })",
    ),
    (
        "globals",
        "var name = 'shop', status = 1, top2 = 1, event = null, h = 5, t = 5, e = 5, i = 5, n = 5, a = 5, o = 5, r = 5, Panel = 1, Chat = 2, Service = 3, \
             loading = 4, local = 5, session = 6, later = 7; var define = function () { throw new Error('not a module') }; define.amd = {}; \
             var exports = {}, module = { exports }; var $ = () => null, jQuery = $",
    ),
    (
        "observers",
        "delete window.ResizeObserver; delete window.IntersectionObserver; delete window.BroadcastChannel; delete window.AudioContext; \
             delete window.structuredClone; delete window.requestIdleCallback; Object.defineProperty(window, 'visualViewport', { value: undefined })",
    ),
    (
        "dataset",
        "Object.defineProperty(document, 'currentScript', { get: () => null }); Element.prototype.closest = function () { return null }",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_globals_and_extended_prototypes_do_not_break_the_widget() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let node = site.nodes[0].url("");
    let mut failed = Vec::new();
    for (name, script) in REPLACEMENTS {
        let path = format!("/{name}");
        // The script is a classic script, so it runs in the global scope as on real pages.
        site.shop.serve(&path, Reply::html(&page("Shop", &format!("<script>{script}</script>"), &site.tag(&node))));
        let guest = Guest { page: browser.open_page().await };
        guest.page.visit(&format!("{}{name}", site.shop.url())).await;
        let seen = async {
            guest.show().await;
            let (question, answer) = (format!("question {name}"), format!("answer {name}"));
            guest.type_and_send(&question).await;
            let newest = "document.querySelector('.rooms .room')?.textContent.includes(arguments[0])";
            host.page.until_with("the question arrives", newest, &json!([question])).await;
            host.choose_first().await;
            host.send_text(&answer).await;
            let shown = format!("{}?.textContent.includes('{answer}')", Guest::at(".talk"));
            guest.page.until("the answer is shown", &shown).await;
            guest.page.reload().await;
            guest.page.until("it is there after a reload", &shown).await;
        };
        let limit = crate::TIMEOUT / 2;
        if tokio::time::timeout(limit, seen).await.is_err() {
            let shown = "document.querySelector('pintalk-widget')?.shadowRoot?.textContent";
            failed.push(format!("{name}: {} {:#?}", guest.page.value(shown).await, browser.log().await));
        }
        guest.page.visit("about:blank").await;
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let thrown: Vec<String> = browser.log().await.into_iter().filter(|line| line.contains("Uncaught")).collect();
    assert!(thrown.is_empty(), "{thrown:#?}");
    site.close().await;
}
