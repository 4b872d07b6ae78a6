//! Tests links, dates, and the methods of the widget's element.

use serde_json::{Value, json};

use crate::browser::{Browser, Page};
use crate::device::shifted_clock;
use crate::people::{Guest, Host};
use crate::shop::{ORIGINS, Reply, page};
use crate::site::Site;
use crate::talk::no_complaints;

/// Messages with the address and the text of each link that they must contain.
const LINKS: [(&str, &[(&str, &str)]); 41] = [
    ("http://shop.example", &[("http://shop.example/", "http://shop.example")]),
    ("see https://shop.example/a?b=c#d now", &[("https://shop.example/a?b=c#d", "https://shop.example/a?b=c#d")]),
    ("www.shop.example/a", &[("https://www.shop.example/a", "www.shop.example/a")]),
    ("WWW.Shop.Example", &[("https://www.shop.example/", "WWW.Shop.Example")]),
    ("HTTPS://SHOP.EXAMPLE/A", &[("https://shop.example/A", "HTTPS://SHOP.EXAMPLE/A")]),
    ("look: https://shop.example.", &[("https://shop.example/", "https://shop.example")]),
    ("https://shop.example/a, then", &[("https://shop.example/a", "https://shop.example/a")]),
    ("https://shop.example/a!?", &[("https://shop.example/a", "https://shop.example/a")]),
    (
        "https://shop.example/a; and: https://shop.example/b:",
        &[("https://shop.example/a", "https://shop.example/a"), ("https://shop.example/b", "https://shop.example/b")],
    ),
    ("(https://shop.example/a)", &[("https://shop.example/a", "https://shop.example/a")]),
    ("(see https://en.example/wiki/A_(b))", &[("https://en.example/wiki/A_(b)", "https://en.example/wiki/A_(b)")]),
    ("https://en.example/wiki/A_(b)", &[("https://en.example/wiki/A_(b)", "https://en.example/wiki/A_(b)")]),
    ("[https://shop.example/a]", &[("https://shop.example/a", "https://shop.example/a")]),
    ("<https://shop.example/a>", &[("https://shop.example/a", "https://shop.example/a")]),
    ("\"https://shop.example/a\"", &[("https://shop.example/a", "https://shop.example/a")]),
    ("'https://shop.example/a'", &[("https://shop.example/a", "https://shop.example/a")]),
    ("“https://shop.example/a”", &[("https://shop.example/a", "https://shop.example/a")]),
    ("쇼핑(https://shop.example)에서", &[("https://shop.example/", "https://shop.example")]),
    ("www.shop.example(쇼핑)", &[("https://www.shop.example/", "www.shop.example")]),
    ("링크https://shop.example/a", &[("https://shop.example/a", "https://shop.example/a")]),
    ("http://a,http://b/", &[("http://a/", "http://a"), ("http://b/", "http://b/")]),
    ("https://me:word@shop.example/", &[]),
    ("https://shop.example에서 봤어요", &[("https://shop.example/", "https://shop.example")]),
    ("www.shop.example은 어때요?", &[("https://www.shop.example/", "www.shop.example")]),
    ("https://shop.example:8080으로", &[("https://shop.example:8080/", "https://shop.example:8080")]),
    ("주소는 https://shop.example입니다.", &[("https://shop.example/", "https://shop.example")]),
    ("https://shop.example/상품/1", &[("https://shop.example/%EC%83%81%ED%92%88/1", "https://shop.example/상품/1")]),
    ("https://쇼핑.example/a", &[("https://xn--hp4bo76a.example/a", "https://쇼핑.example/a")]),
    (
        "https://shop.example/a\nhttps://shop.example/b",
        &[("https://shop.example/a", "https://shop.example/a"), ("https://shop.example/b", "https://shop.example/b")],
    ),
    (
        "https://shop.example/?q=a%20b&c[]=d",
        &[("https://shop.example/?q=a%20b&c[]=d", "https://shop.example/?q=a%20b&c[]=d")],
    ),
    ("https://shop.example/a…", &[("https://shop.example/a", "https://shop.example/a")]),
    ("javascript:alert(1)", &[]),
    ("data:text/html,<script>alert(1)</script>", &[]),
    ("javascript://shop.example/%0aalert(1)", &[]),
    ("ftp://shop.example/a file:///etc/passwd mailto:a@shop.example tel:123", &[]),
    ("vbscript:msgbox blob:https blob: about:blank", &[]),
    ("http:// https:// www. www..com http://. https://?", &[]),
    ("shop.example e.g. 1.5 a.b node.js 3.14.15 end.Next", &[]),
    ("awww.shop.example", &[]),
    ("https:/shop.example http:shop.example", &[]),
    (
        "<img src=x onerror=alert(1)> <a href=\"https://shop.example/a\">x</a>",
        &[("https://shop.example/a", "https://shop.example/a")],
    ),
];

/// Returns a JavaScript expression whose value lists each message with the address and the text of each of its links.
fn links(root: &str) -> String {
    format!(
        "[...{root}.querySelectorAll('.talk .bubble')].map((row) => [row.textContent, [...row.querySelectorAll('a')].map((one) => [one.href, one.textContent])])"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn web_addresses_become_links_and_nothing_else_does() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    for (text, _) in LINKS {
        guest.paste(text).await;
    }
    host.choose_first().await;
    let widget = "document.querySelector('pintalk-widget').shadowRoot";
    let wanted: Vec<Value> = LINKS.iter().map(|(text, links)| json!([text, links])).collect();
    for (page, root) in [(&guest.page, widget), (&host.page, "document")] {
        let all = format!("{root}.querySelectorAll('.talk .bubble').length === {}", LINKS.len());
        page.until("all are shown", &all).await;
        let found = page.value(&links(root)).await;
        let wrong: Vec<String> = found
            .as_array()
            .into_iter()
            .flatten()
            .zip(&wanted)
            .filter(|(found, wanted)| found != wanted)
            .map(|(found, wanted)| format!("{found}\n  wanted {wanted}"))
            .collect();
        assert!(wrong.is_empty(), "{root}:\n{}", wrong.join("\n"));
        let attributes = format!(
            "[...new Set([...{root}.querySelectorAll('.talk a')].map((one) => `${{one.target}} ${{one.rel}}`))]"
        );
        assert_eq!(page.value(&attributes).await, json!(["_blank noopener noreferrer nofollow"]));
    }
    // The widget shows no previews of links, so the page loads nothing from their addresses.
    let loaded =
        "performance.getEntriesByType('resource').map(({ name }) => name).filter((name) => name.includes('.example'))";
    assert_eq!(guest.page.value(loaded).await, json!([]));
    // A link opens in a new tab. The widget must not prevent the click.
    let there = site.shop.url_at(ORIGINS[0]);
    guest.paste(&there).await;
    let link = format!("[...{widget}.querySelectorAll('.talk a')].at(-1)");
    guest.page.until("it is a link", &format!("{link}.href === '{there}'")).await;
    let opened = "window.opened = null; addEventListener('click', () => {}); document.addEventListener('visibilitychange', () => {})";
    guest.page.run(opened, &json!([])).await;
    let before = browser.windows().await;
    guest.page.click(&link).await;
    let opens = async || (browser.windows().await == before + 1).then_some(());
    crate::eventually("a new tab is open", crate::TIMEOUT, opens).await;
    no_complaints(&browser).await;
    site.close().await;
}

/// Returns a JavaScript expression whose value lists day headings and messages in order.
fn days(root: &str) -> String {
    format!(
        "[...{root}.querySelectorAll('.talk li')].map((row) => row.classList.contains('day') ? `# ${{row.textContent}}` : row.querySelector('.bubble').textContent)"
    )
}

const DAY_MS: i64 = 86_400_000;

async fn at_clock(browser: &std::sync::Arc<Browser>, offset_ms: i64) -> Page {
    let page = browser.open_page().await;
    page.before_load(&shifted_clock(offset_ms)).await;
    page
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_one_day_share_a_heading_whatever_the_senders_clocks() {
    let browser = Browser::start("en-US").await;
    for offset in [0, 3 * DAY_MS, -3 * DAY_MS, DAY_MS / 2, -400 * DAY_MS] {
        let site = Site::embedded().await;
        let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
        let guest = Guest::visit(at_clock(&browser, offset).await, &site.shop.url()).await;
        guest.send_text("one").await;
        guest.sees(&["me: one"]).await;
        host.choose_first().await;
        host.send_text("two").await;
        guest.sees(&["me: one", "they: two"]).await;
        guest.send_text("three").await;
        guest.sees(&["me: one", "they: two", "me: three"]).await;
        host.sees(&["they: one", "me: two", "they: three"]).await;
        let in_widget = days("document.querySelector('pintalk-widget').shadowRoot");
        for (page, root) in [(&guest.page, &in_widget), (&host.page, &days("document"))] {
            let shown = page.value(root).await;
            let headings: Vec<&Value> = shown
                .as_array()
                .into_iter()
                .flatten()
                .filter(|row| row.as_str().is_some_and(|row| row.starts_with("# ")))
                .collect();
            assert_eq!(headings.len(), 1, "guest's clock {offset} ms ahead: {shown}");
            assert_eq!(shown[0], *headings[0]);
            assert_eq!([&shown[1], &shown[2], &shown[3]], ["one", "two", "three"], "the order is that of the server");
        }
        assert_eq!(host.page.value(&days("document")).await[0], "# Today", "guest's clock {offset} ms ahead");
        host.page.reload().await;
        host.is_online().await;
        host.sees(&["they: one", "me: two", "they: three"]).await;
        assert_eq!(host.page.value(&days("document")).await[0], "# Today");
        site.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wall_clock_on_the_wire_has_the_configured_offset() {
    for offset in ["-03:00", "+00:00", "+05:30", "+09:00"] {
        let site = Site::embedded_with(&[&format!("--wire-offset={offset}")]).await;
        let browser = Browser::start("en-US").await;
        let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
        let guest_page = browser.first_page().await;
        guest_page.before_load(crate::device::RECORD_FRAMES).await;
        let guest = Guest::visit(guest_page, &site.shop.url()).await;
        guest.send_text("what time is it?").await;
        guest.sees(&["me: what time is it?"]).await;
        host.choose_first().await;
        host.send_text("now").await;
        guest.sees(&["me: what time is it?", "they: now"]).await;
        // The message was sent with the current time.
        let sent =
            "sentFrames.map(([, , text]) => JSON.parse(text)).find((frame) => frame.type === 'chat_message').datetime";
        let sent = guest.page.value(&format!("(Date.parse({sent} + '{offset}') - Date.now()) / 60000")).await;
        assert!(sent.as_f64().is_some_and(|minutes| minutes.abs() < 2.0), "{offset}: {sent} minutes off");
        // The widget and the console show the current or the previous minute.
        let now = "[0, 60000].map((ago) => new Date(Date.now() - ago).toLocaleTimeString('en-US', { hour: 'numeric', minute: '2-digit' }))";
        for (page, root) in
            [(&guest.page, "document.querySelector('pintalk-widget').shadowRoot"), (&host.page, "document")]
        {
            let shown = format!("[...{root}.querySelectorAll('.talk .meta')].map((one) => one.textContent)");
            let is_now =
                format!("{shown}.length && {shown}.every((text) => {now}.some((time) => text.includes(time)))");
            page.until(&format!("{offset}: the time is that of the viewer"), &is_now).await;
        }
        let listed = format!("{now}.some((time) => document.querySelector('.rooms .room').textContent.includes(time))");
        host.page.until(&format!("{offset}: the list as well"), &listed).await;
        site.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reset_ends_the_conversation_in_this_browser() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    let other = Guest::visit(browser.open_page().await, &site.shop.url()).await;
    guest.send_text("my card number").await;
    guest.sees(&["me: my card number"]).await;
    other.sees(&["me: my card number"]).await;
    host.choose_first().await;
    host.send_text("I see").await;
    guest.sees(&["me: my card number", "they: I see"]).await;
    guest.page.keys(&Guest::at("textarea"), "a draft").await;
    guest.page.run("document.querySelector('pintalk-widget').reset()", &json!([])).await;
    guest.sees(&[]).await;
    other.sees(&[]).await;
    assert_eq!(guest.page.value(&format!("{}.value", Guest::at("textarea"))).await, "", "the draft stays");
    let kept = "JSON.stringify([Object.entries(localStorage), Object.entries(sessionStorage)])";
    let kept = guest.page.value(kept).await;
    let kept = kept.as_str().expect("a text");
    assert!(!kept.contains("card") && !kept.contains("I see") && !kept.contains("a draft"), "{kept}");
    host.send_text("still there?").await;
    guest.page.reload().await;
    guest.page.until("the widget is there", &Guest::at(".panel:not([hidden])")).await;
    guest.sees(&[]).await;
    // The next guest on this computer gets a new room.
    guest.send_text("from the next guest").await;
    guest.sees(&["me: from the next guest"]).await;
    other.sees(&["me: from the next guest"]).await;
    host.page.until("there are two rooms", "document.querySelectorAll('.rooms .room').length === 2").await;
    let stays = "document.querySelector('.talk').textContent.includes('my card number')";
    assert_eq!(host.page.value(stays).await, true, "the host keeps the conversation");
    // `reset()` is called twice in a row. It is then called while a message is unsent.
    for _ in 0..2 {
        guest.page.run("document.querySelector('pintalk-widget').reset()", &json!([])).await;
    }
    guest.sees(&[]).await;
    guest.page.set_offline(true).await;
    guest.send_text("not sent").await;
    guest.page.run("document.querySelector('pintalk-widget').reset()", &json!([])).await;
    guest.sees(&[]).await;
    guest.page.set_offline(false).await;
    guest.send_text("sent").await;
    guest.sees(&["me: sent"]).await;
    let not_sent = "document.querySelector('.rooms').textContent.includes('not sent')";
    assert_eq!(host.page.value(not_sent).await, false, "a message that was reset is sent");
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hide_removes_the_widget_from_view_and_show_restores_it() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.send_text("one").await;
    guest.sees(&["me: one"]).await;
    host.choose_first().await;
    let visible = format!("{}.checkVisibility() && {0}.getBoundingClientRect().width > 0", Guest::at(".launcher"));
    guest.page.run("document.querySelector('pintalk-widget').hide()", &json!([])).await;
    guest.page.until("nothing is shown", &format!("!({visible}) && !{}.checkVisibility()", Guest::at(".panel"))).await;
    let hit = "document.elementFromPoint(innerWidth - 48, innerHeight - 48)?.localName !== 'pintalk-widget'";
    assert_eq!(guest.page.value(hit).await, true);
    guest.page.run("window.received = 0; addEventListener('pintalk', ({ detail }) => (window.received += detail.type === 'received'))", &json!([])).await;
    host.send_text("two").await;
    guest.page.until("the page is notified", "window.received === 1").await;
    guest.page.run("document.querySelector('pintalk-widget').show()", &json!([])).await;
    guest.page.until("it is shown", &visible).await;
    guest.sees(&["me: one", "they: two"]).await;
    // A button of the page may open the panel while the launcher is hidden.
    guest
        .page
        .run("const widget = document.querySelector('pintalk-widget'); widget.hide(); widget.toggle(true)", &json!([]))
        .await;
    guest
        .page
        .until("only the panel is shown", &format!("!({visible}) && {}.checkVisibility()", Guest::at(".panel")))
        .await;
    guest.page.run("document.querySelector('pintalk-widget').show()", &json!([])).await;
    // The language of the page changes first, and then the language of the element. The element's language takes
    // precedence.
    for (change, placeholder) in [
        ("document.documentElement.lang = 'ko'", "메시지 입력"),
        ("document.querySelector('pintalk-widget').setAttribute('lang', 'en-GB')", "Write a message"),
    ] {
        guest.page.run(change, &json!([])).await;
        let shown = format!("{}?.placeholder === '{placeholder}'", Guest::at("textarea"));
        guest.page.until(placeholder, &shown).await;
    }
    guest.sees(&["me: one", "they: two"]).await;
    // `hide()` works even if a style sheet of the page displays the element, or if the widget has not started yet.
    guest.page.run("document.head.insertAdjacentHTML('beforeend', '<style>pintalk-widget { display: block !important }</style>')", &json!([])).await;
    guest.page.run("document.querySelector('pintalk-widget').hide()", &json!([])).await;
    guest.page.until("nothing is shown", &format!("!({visible})")).await;
    let early = format!(
        "{}<script>customElements.whenDefined('pintalk-widget').then(() => document.querySelector('pintalk-widget').hide())</script>",
        site.tag(&site.nodes[0].url(""))
    );
    site.shop.serve("/hidden", Reply::html(&page("Shop", "", &early)));
    guest.page.visit(&format!("{}hidden", site.shop.url())).await;
    guest.page.until("it is there and hidden", &format!("{} && !({visible})", Guest::at(".launcher"))).await;
    guest.page.run("document.querySelector('pintalk-widget').show()", &json!([])).await;
    guest.page.until("it is shown", &visible).await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsupported_browsers_show_no_widget_and_no_error() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let node = site.nodes[0].url("");
    let [_, element] = crate::site::readme_tags(&site.access_key, &site.secret_key);
    let page_at = async |name: &str, script: &str| {
        let path = format!("/{name}");
        let watch = "<script>window.errors = []; addEventListener('error', (event) => errors.push(event.message)); \
            addEventListener('unhandledrejection', (event) => errors.push(String(event.reason)))</script>";
        let end = format!("<h1>Shop</h1>{element}{}<p id=\"end\"></p>", site.tag(&node).replace(" async", ""));
        site.shop.serve(&path, Reply::html(&page("Shop", &format!("{watch}<script>{script}</script>"), &end)));
        let page = browser.first_page().await;
        page.visit(&format!("{}{name}", site.shop.url())).await;
        page.until("the page is loaded", "document.readyState === 'complete'").await;
        page
    };
    for (name, script) in [
        ("elements", "delete window.customElements"),
        ("shadow", "delete Element.prototype.attachShadow"),
        ("at", "delete Array.prototype.at"),
        ("fetch", "delete window.fetch"),
        ("sockets", "delete window.WebSocket"),
        ("promise", "delete window.Promise"),
        ("abort", "delete window.AbortController"),
        ("url", "delete window.URL"),
        (
            "several",
            "delete window.customElements; delete window.fetch; delete window.Promise; delete window.Map; delete Array.from; delete Object.assign; \
            delete Object.entries; delete window.URL; delete window.URLSearchParams; delete document.constructor.prototype.currentScript; \
            Object.defineProperty(Document.prototype, 'currentScript', { value: undefined })",
        ),
    ] {
        let page = page_at(name, script).await;
        let shown = "[...document.querySelectorAll('pintalk-widget')].some((one) => one.shadowRoot?.querySelector('.launcher'))";
        assert_eq!(page.value(shown).await, false, "{name}");
        assert_eq!(page.value("window.errors").await, json!([]), "{name}");
        let loaded =
            "performance.getEntriesByType('resource').filter(({ name }) => name.includes('widget-main')).length";
        assert_eq!(page.value(loaded).await, 0, "{name}: more than the loader is loaded");
        let log: Vec<String> = browser
            .log()
            .await
            .into_iter()
            .filter(|line| !line.contains("[DOM]") && !line.contains("favicon"))
            .collect();
        assert!(log.is_empty(), "{name}: {log:#?}");
    }
    // These scripts remove or replace features that the widget must not depend on.
    for (name, script) in [
        ("supports", "delete CSS.supports"),
        ("css", "delete window.CSS"),
        ("sheets", "delete Document.prototype.adoptedStyleSheets; delete ShadowRoot.prototype.adoptedStyleSheets"),
        (
            "construct",
            "window.CSSStyleSheet = function () { throw new TypeError('Illegal constructor') }; delete ShadowRoot.prototype.adoptedStyleSheets",
        ),
        (
            "find-last",
            "delete Array.prototype.findLast; delete Array.prototype.findLastIndex; delete Array.prototype.toSorted; delete Array.prototype.toReversed; delete Array.prototype.with; \
            delete Array.prototype.group; delete Array.fromAsync; delete Object.groupBy; delete Map.groupBy; delete Promise.withResolvers; delete Array.prototype.toSpliced",
        ),
        (
            "safari",
            "delete AbortSignal.timeout; delete AbortSignal.any; delete Element.prototype.checkVisibility; delete Element.prototype.setHTMLUnsafe; \
            delete HTMLElement.prototype.showPopover; delete window.navigation; delete Document.prototype.startViewTransition; delete window.scheduler; delete URL.canParse; \
            delete window.requestIdleCallback; delete Set.prototype.union; delete String.prototype.isWellFormed; delete Response.json; delete Element.prototype.ariaNotify",
        ),
    ] {
        let page = page_at(name, script).await;
        let guest = Guest { page };
        guest.show().await;
        guest.send_text(name).await;
        let shown = format!("{}?.textContent.includes('{name}') && !{}", Guest::at(".talk"), Guest::at(".sending"));
        guest.page.until(name, &shown).await;
        let size = format!("getComputedStyle({}).width === '56px'", Guest::at(".launcher"));
        assert_eq!(guest.page.value(&size).await, true, "{name}: the widget has no style");
        assert_eq!(guest.page.value("window.errors").await, json!([]), "{name}");
    }
    site.close().await;
}
