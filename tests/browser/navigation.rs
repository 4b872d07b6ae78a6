//! Tests pages that replace their content. After each navigation, exactly one widget is connected and shows the same
//! conversation. No socket of a removed widget is open.

use std::time::Duration;

use serde_json::json;

use crate::browser::Browser;
use crate::people::{Guest, Host};
use crate::shop::{Reply, library, page};
use crate::site::Site;

/// JavaScript expression for the number of widgets in the page, and for the number of widgets that show a launcher.
const WIDGETS: &str = "[document.querySelectorAll('pintalk-widget').length, \
    [...document.querySelectorAll('pintalk-widget')].filter((one) => one.shadowRoot?.querySelector('.launcher')).length]";

/// Site with one guest and one host in a conversation. The number of their sockets must not grow.
struct Visit {
    site: Site,
    host: Host,
    guest: Guest,
    /// Number of open sockets after guest and host have each sent a message: two of the guest and two of the host.
    sockets: f64,
    shown: Vec<String>,
}

impl Visit {
    /// Opens the page at `path`. Guest and host then exchange messages.
    async fn begin(site: Site, browser: &std::sync::Arc<Browser>, path: &str) -> Self {
        let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
        let guest = Guest::visit(browser.first_page().await, &format!("{}{path}", site.shop.url())).await;
        guest.page.run("window.isFirstDocument = true", &json!([])).await;
        guest.send_text("hello").await;
        guest.sees(&["me: hello"]).await;
        host.choose_first().await;
        host.send_text("welcome").await;
        guest.sees(&["me: hello", "they: welcome"]).await;
        let sockets = site.open_sockets().await;
        Self { site, host, guest, sockets, shown: vec!["me: hello".to_owned(), "they: welcome".to_owned()] }
    }

    /// Checks that there is one widget with the whole conversation, and that guest and host can send messages. The
    /// number of sockets must not be higher than at the start.
    async fn goes_on(&mut self, after: &str) {
        let one = format!("JSON.stringify({WIDGETS}) === '[1,1]'");
        self.guest.page.until(&format!("{after}: one widget is there"), &one).await;
        let open = format!("{}?.hidden === false", Guest::at(".panel"));
        self.guest.page.until(&format!("{after}: the panel is open"), &open).await;
        let text = format!("{} after {after}", self.shown.len());
        self.guest.send_text(&text).await;
        self.shown.push(format!("me: {text}"));
        let arrived = "document.querySelector('.talk').textContent.includes(arguments[0])";
        self.host.page.until_with(&format!("{after}: the host has it"), arrived, &json!([text])).await;
        let answer = format!("{} answer", self.shown.len());
        self.host.send_text(&answer).await;
        self.shown.push(format!("they: {answer}"));
        let shown: Vec<&str> = self.shown.iter().map(String::as_str).collect();
        self.guest.sees(&shown).await;
        let same = async || (self.site.open_sockets().await <= self.sockets).then_some(());
        let counted = crate::eventually("the sockets that were left are closed", Duration::from_secs(10), same);
        counted.await;
    }

    /// Returns whether the page is still the document that was loaded first.
    async fn is_first_document(&self) -> bool {
        self.guest.page.value("window.isFirstDocument === true").await == json!(true)
    }
}

/// Clicks a link of the page and waits for the new title.
async fn follow(visit: &Visit, link: &str, title: &str) {
    visit.guest.page.click(&format!("document.querySelector('{link}')")).await;
    visit.guest.page.until(title, &format!("document.title === '{title}'")).await;
}

const LINKS: &str = "<nav><a id=\"one\" href=\"/one\">One</a> <a id=\"two\" href=\"/two\">Two</a> <a id=\"three\" href=\"/three\">Three</a></nav>";

const TURBO: &str = "@hotwired/turbo/dist/turbo.es2017-umd.js";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turbo_visits_restores_previews_and_morphs_keep_one_widget() {
    let browser = Browser::start("en-US").await;
    for (name, in_head, track, element) in [
        ("tag in head", true, "", false),
        ("tag in head, tracked", true, " data-turbo-track=\"reload\"", false),
        ("tag in body", false, "", false),
        ("tag in body, once", false, " data-turbo-eval=\"false\"", false),
        ("permanent element", false, "", true),
    ] {
        let site = Site::embedded().await;
        let tag = site.tag(&site.nodes[0].url("")).replace(" async", &format!("{track} async"));
        let [_, given] = crate::site::readme_tags(&site.access_key, &site.secret_key);
        let given = if element {
            given.replace("<pintalk-widget", "<pintalk-widget id=\"chat\" data-turbo-permanent")
        } else {
            String::new()
        };
        let tag = if element {
            tag.split(" data-access-key").next().unwrap_or_default().to_owned() + " async></script>"
        } else {
            tag
        };
        let morph = "<meta name=\"turbo-refresh-method\" content=\"morph\"><meta name=\"turbo-refresh-scroll\" content=\"preserve\">";
        for title in ["one", "two", "three"] {
            let head = format!("{}{morph}{}", library(TURBO), if in_head { &tag } else { "" });
            let body = format!("{LINKS}<main><h1>{title}</h1></main>{given}{}", if in_head { "" } else { &tag });
            site.shop.serve(&format!("/{title}"), Reply::html(&page(title, &head, &body)));
        }
        let mut visit = Visit::begin(site, &browser, "one").await;
        follow(&visit, "#two", "two").await;
        visit.goes_on(&format!("{name}: a visit")).await;
        follow(&visit, "#three", "three").await;
        visit.goes_on(&format!("{name}: another visit")).await;
        visit.guest.page.run("history.back()", &json!([])).await;
        visit.guest.page.until("restored", "document.title === 'two'").await;
        visit.goes_on(&format!("{name}: back")).await;
        // Turbo first shows a preview of a page that it has cached.
        follow(&visit, "#one", "one").await;
        visit.goes_on(&format!("{name}: a preview")).await;
        let refresh = "window.morphed = false; addEventListener('turbo:morph', () => (window.morphed = true), { once: true }); \
            addEventListener('turbo:load', () => (window.morphed = true), { once: true }); Turbo.visit(location.href, { action: 'replace' })";
        visit.guest.page.run(refresh, &json!([])).await;
        visit.guest.page.until("the page is morphed", "window.morphed").await;
        visit.goes_on(&format!("{name}: a morph")).await;
        let stream = "Turbo.renderStreamMessage('<turbo-stream action=\"refresh\"></turbo-stream>'); window.refreshed = false; \
            addEventListener('turbo:load', () => (window.refreshed = true), { once: true })";
        visit.guest.page.run(stream, &json!([])).await;
        visit.guest.page.until("the page is refreshed", "window.refreshed").await;
        visit.goes_on(&format!("{name}: a stream that refreshes")).await;
        assert!(visit.is_first_document().await, "{name}: Turbo reloaded the page");
        visit.site.close().await;
        for window in [&visit.guest.page, &visit.host.page] {
            window.visit("about:blank").await;
        }
    }
}

/// Scripts that change a page as routers, frameworks and tag managers do.
const REPLACEMENTS: [(&str, &str); 16] = [
    ("innerHTML of the body", "document.body.innerHTML = '<main><h1>Other</h1></main>'"),
    (
        "body replaced",
        "const body = document.createElement('body'); body.innerHTML = '<h1>Other</h1>'; document.body.replaceWith(body)",
    ),
    (
        "documentElement.replaceChild",
        "document.documentElement.replaceChild(document.createElement('body'), document.body)",
    ),
    (
        "replaceChildren of html",
        "const head = document.createElement('head'); const body = document.createElement('body'); \
        body.append('Other'); document.documentElement.replaceChildren(head, body)",
    ),
    (
        "html replaced",
        "const html = document.createElement('html'); html.innerHTML = '<head><title>Other</title></head><body><h1>Other</h1></body>'; \
        document.replaceChild(html, document.documentElement)",
    ),
    ("element moved", "document.body.prepend(document.querySelector('pintalk-widget'))"),
    (
        "element moved in a container",
        "const box = document.createElement('div'); document.body.append(box); box.append(document.querySelector('pintalk-widget'))",
    ),
    (
        "element removed and added",
        "const one = document.querySelector('pintalk-widget'); const { parentNode } = one; \
        parentNode.removeChild(one); setTimeout(() => parentNode.append(one), 0)",
    ),
    (
        "tag again",
        "const old = document.querySelector('script[data-access-key]') ?? window.tag; const tag = document.createElement('script'); \
        for (const { name, value } of old.attributes) tag.setAttribute(name, value); (document.body ?? document.documentElement).append(tag)",
    ),
    (
        "tag again, with another query",
        "const tag = document.createElement('script'); for (const { name, value } of window.tag.attributes) \
        tag.setAttribute(name, value); tag.src += '?again'; document.head.append(tag)",
    ),
    (
        "module tag",
        "const tag = document.createElement('script'); for (const { name, value } of window.tag.attributes) \
        tag.setAttribute(name, value); tag.type = 'module'; document.head.append(tag)",
    ),
    (
        "second element",
        "const one = document.querySelector('pintalk-widget'); const other = document.createElement('pintalk-widget'); \
        for (const { name, value } of one.attributes) if (name !== 'open') other.setAttribute(name, value); document.body.append(other); \
        requestAnimationFrame(() => other.remove())",
    ),
    ("tag removed", "document.querySelectorAll('script[data-access-key]').forEach((tag) => tag.remove())"),
    ("pushState", "history.pushState({}, '', '/elsewhere'); document.querySelector('h1')?.remove()"),
    (
        "astro swap",
        "const next = new DOMParser().parseFromString('<!doctype html><html lang=\"en\"><head><title>Swapped</title></head><body><h1>Swapped</h1></body></html>', 'text/html'); \
        for (const { name } of [...document.documentElement.attributes]) document.documentElement.removeAttribute(name); \
        for (const child of [...document.head.children]) child.remove(); document.head.append(...next.head.children); \
        document.body.replaceWith(document.adoptNode(next.body))",
    ),
    ("view transition", "document.startViewTransition(() => { document.body.innerHTML = '<h1>In a transition</h1>' })"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_replace_or_move_anything_keep_one_widget() {
    let browser = Browser::start("en-US").await;
    let site = Site::embedded().await;
    let mut visit = Visit::begin(site, &browser, "").await;
    visit
        .guest
        .page
        .run("window.tag = document.querySelector('script[data-access-key]').cloneNode()", &json!([]))
        .await;
    for (name, script) in REPLACEMENTS {
        visit.guest.page.run(&format!("{script}; document.title = arguments[0]"), &json!([name])).await;
        // Waits until all effects of the script have occurred.
        let settle = "return new Promise((done) => requestAnimationFrame(() => setTimeout(() => setTimeout(done))))";
        visit.guest.page.run(settle, &json!([])).await;
        visit.goes_on(name).await;
    }
    assert!(visit.is_first_document().await);
    visit.site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_duplicate_and_module_tags_add_one_widget() {
    let browser = Browser::start("en-US").await;
    let site = Site::embedded().await;
    let node = site.nodes[0].url("");
    let tag = site.tag(&node);
    let [_, element] = crate::site::readme_tags(&site.access_key, &site.secret_key);
    let bare = format!("<script src=\"{node}/widget.js\"></script>");
    let make = format!(
        "const tag = document.createElement('script'); tag.src = '{node}/widget.js'; tag.dataset.accessKey = '{}'; tag.dataset.secretKey = '{}';",
        site.access_key, site.secret_key
    );
    let cases = [
        ("in-head", tag.replace(" async", ""), String::new()),
        ("deferred", tag.replace(" async", " defer"), String::new()),
        ("module", tag.replace("<script", "<script type=\"module\""), String::new()),
        ("twice", format!("{tag}{tag}"), String::new()),
        ("twice-in-turn", tag.replace(" async", ""), tag.replace(" async", "")),
        ("head-and-body", tag.clone(), tag.clone()),
        (
            "late",
            String::new(),
            format!("<script>addEventListener('load', () => {{ {make} document.head.append(tag) }})</script>"),
        ),
        (
            "later",
            String::new(),
            format!("<script>setTimeout(() => {{ {make} document.documentElement.append(tag) }}, 300)</script>"),
        ),
        (
            "late-twice",
            String::new(),
            format!(
                "<script>for (const at of [1, 2]) setTimeout(() => {{ {make} document.body.append(tag) }}, at)</script>"
            ),
        ),
        ("element-first", String::new(), format!("{element}{bare}")),
        ("element-last", bare.clone(), format!("<div>{element}</div>")),
        ("element-and-tag", String::new(), format!("{element}{tag}")),
        ("two-elements", String::new(), format!("{element}{element}{bare}")),
        (
            "element-later",
            bare.clone(),
            format!(
                "<script>setTimeout(() => document.body.insertAdjacentHTML('beforeend', `{element}`), 300)</script>"
            ),
        ),
        (
            "imported",
            String::new(),
            format!(
                "<script type=\"module\">await import('{node}/widget.js')</script>{}",
                element.replace("<pintalk-widget", &format!("<pintalk-widget server=\"{node}\""))
            ),
        ),
        (
            "google-tag-manager",
            String::new(),
            format!(
                "<script>const box = document.createElement('div'); box.innerHTML = `<script src=\"{node}/widget.js\"><\\/script>`; \
             const tag = document.createElement('script'); tag.src = '{node}/widget.js?access-key={}&secret-key={}'; tag.type = 'text/javascript'; document.body.append(tag)</script>",
                site.access_key, site.secret_key
            ),
        ),
    ];
    let host = Host::sign_in(browser.open_page().await, &format!("{node}/console/")).await;
    let before = site.open_sockets().await;
    for (name, head, end) in cases {
        site.shop.serve(&format!("/{name}"), Reply::html(&page("Shop", &head, &format!("<h1>Shop</h1>{end}"))));
        let guest = Guest { page: browser.first_page().await };
        guest.page.visit(&format!("{}{name}", site.shop.url())).await;
        let shown = format!("{WIDGETS}[1] === 1");
        guest.page.until(&format!("{name}: the launcher is shown"), &shown).await;
        guest.page.run("document.querySelector('pintalk-widget').toggle(true)", &json!([])).await;
        guest.send_text(&format!("from {name}")).await;
        let newest = "document.querySelector('.rooms .room')?.textContent.includes(arguments[0])";
        host.page.until_with(name, newest, &json!([format!("from {name}")])).await;
        assert_eq!(guest.page.value(&format!("{WIDGETS}[1]")).await, 1, "{name}");
        let sockets = async || (site.open_sockets().await <= before + 2.0).then_some(());
        crate::eventually(&format!("{name}: two sockets are open"), Duration::from_secs(10), sockets).await;
    }
    assert_eq!(host.page.number("document.querySelectorAll('.rooms .room').length").await, 1.0, "one conversation");
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn react_hydrates_a_whole_document_beside_the_widget() {
    let browser = Browser::start("en-US").await;
    let site = Site::embedded().await;
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><title>Shop</title></head><body><h1>Shop</h1>{}{}<script id=\"app\">\
         const e = React.createElement; window.heading = document.querySelector('h1'); window.errors = []; \
         const libraries = [...document.scripts].filter((script) => script.src).map((script) => new URL(script.src).pathname); \
         const App = () => e('html', {{ lang: 'en' }}, e('head', null, e('title', null, 'Shop')), e('body', null, e('h1', null, 'Shop'), \
           ...libraries.map((src) => e('script', {{ key: src, src }})), \
           e('script', {{ id: 'app', suppressHydrationWarning: true, dangerouslySetInnerHTML: {{ __html: '' }} }}))); \
         const tag = document.createElement('script'); tag.src = '{}/widget.js'; tag.dataset.accessKey = '{}'; tag.dataset.secretKey = '{}'; \
         const hydrate = () => {{ if (!document.querySelector('pintalk-widget')) return setTimeout(hydrate, 5); \
           ReactDOM.hydrateRoot(document, e(App), {{ onRecoverableError: (error) => window.errors.push(`${{error}}`) }}); window.isHydrated = true }}; \
         document.body.append(tag); hydrate()</script></body></html>",
        library("react/umd/react.development.js"),
        library("react-dom/umd/react-dom.development.js"),
        site.nodes[0].url(""),
        site.access_key,
        site.secret_key
    );
    site.shop.serve("/document", Reply::html(&html));
    let guest = Guest::visit(browser.first_page().await, &format!("{}document", site.shop.url())).await;
    guest.page.until("it is hydrated", "window.isHydrated").await;
    guest.send_text("one").await;
    guest.sees(&["me: one"]).await;
    let kept = "[window.errors, window.heading.isConnected, document.querySelectorAll('pintalk-widget').length]";
    assert_eq!(guest.page.value(kept).await, json!([[], true, 1]));
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn react_in_strict_mode_mounts_and_unmounts_one_widget() {
    let browser = Browser::start("en-US").await;
    let site = Site::embedded().await;
    let node = site.nodes[0].url("");
    let head = [library("react/umd/react.development.js"), library("react-dom/umd/react-dom.development.js")].concat();
    let app = format!(
        "<div id=\"app\"></div><script src=\"{node}/widget.js\" async></script><script>const {{ createElement, StrictMode, useEffect, useState }} = React; \
         const Chat = () => createElement('pintalk-widget', {{ 'access-key': '{}', 'secret-key': '{}' }}); \
         const App = () => {{ const [route, setRoute] = useState('one'); window.go = setRoute; useEffect(() => {{ document.title = route }}, [route]); \
           return createElement('main', {{ key: route }}, createElement('h1', null, route), route !== 'none' && createElement(Chat)) }}; \
         ReactDOM.createRoot(document.querySelector('#app')).render(createElement(StrictMode, null, createElement(App)))</script>",
        site.access_key, site.secret_key
    );
    site.shop.serve("/react", Reply::html(&page("React", &head, &app)));
    let mut visit = Visit::begin(site, &browser, "react").await;
    for route in ["two", "three", "one"] {
        visit.guest.page.run("window.go(arguments[0])", &json!([route])).await;
        visit.guest.page.until(route, &format!("document.title === '{route}'")).await;
        visit.goes_on(route).await;
    }
    // This route does not contain the component, so no widget remains.
    let with = visit.sockets;
    visit.guest.page.run("window.go('none')", &json!([])).await;
    let closed = async || (visit.site.open_sockets().await <= with - 2.0).then_some(());
    crate::eventually("its sockets are closed", Duration::from_secs(10), closed).await;
    assert_eq!(visit.guest.page.value(WIDGETS).await, json!([0, 0]));
    visit.guest.page.run("window.go('one')", &json!([])).await;
    visit.goes_on("unmounted and mounted").await;

    // An effect of a component adds the tag, as guides of other chat widgets recommend. `StrictMode` runs the effect
    // twice.
    let effect = format!(
        "<div id=\"app\"></div><script>const {{ createElement, StrictMode, useEffect }} = React; \
         const App = () => {{ useEffect(() => {{ const tag = document.createElement('script'); tag.src = '{node}/widget.js'; tag.async = true; \
           tag.dataset.accessKey = '{}'; tag.dataset.secretKey = '{}'; document.body.appendChild(tag); \
           return () => {{ document.body.removeChild(tag) }} }}, []); return createElement('h1', null, 'Shop') }}; \
         ReactDOM.createRoot(document.querySelector('#app')).render(createElement(StrictMode, null, createElement(App)))</script>",
        visit.site.access_key, visit.site.secret_key
    );
    visit.site.shop.serve("/effect", Reply::html(&page("React", &head, &effect)));
    visit.guest.page.visit(&format!("{}effect", visit.site.shop.url())).await;
    visit.guest.page.until("the widget is there", &Guest::at(".panel:not([hidden])")).await;
    visit.goes_on("an effect").await;
    visit.site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn htmx_and_pages_in_the_back_forward_cache_keep_one_widget() {
    let browser = Browser::start("en-US").await;
    let site = Site::embedded().await;
    let tag = site.tag(&site.nodes[0].url(""));
    for title in ["one", "two", "three"] {
        let body = format!("<div hx-boost=\"true\">{LINKS}</div><main><h1>{title}</h1></main>{tag}");
        site.shop.serve(&format!("/{title}"), Reply::html(&page(title, &library("htmx.org/dist/htmx.min.js"), &body)));
        site.shop.serve(
            &format!("/plain-{title}"),
            Reply::html(&page(&format!("plain {title}"), "", &format!("<h1>{title}</h1>{tag}"))),
        );
    }
    let mut visit = Visit::begin(site, &browser, "one").await;
    for title in ["two", "three", "one"] {
        follow(&visit, &format!("#{title}"), title).await;
        visit.goes_on(&format!("htmx to {title}")).await;
    }
    // Navigates between pages without scripts of their own. Browsers keep such pages in the back/forward cache.
    for path in ["plain-one", "plain-two"] {
        visit.guest.page.visit(&format!("{}{path}", visit.site.shop.url())).await;
        visit.guest.page.until("the widget is there", &Guest::at(".panel:not([hidden])")).await;
        visit.goes_on(path).await;
    }
    visit.guest.page.run("history.back()", &json!([])).await;
    visit.guest.page.until("back", "document.title.endsWith('plain one')").await;
    visit.goes_on("back").await;
    visit.guest.page.run("history.forward()", &json!([])).await;
    visit.guest.page.until("forward", "document.title.endsWith('plain two')").await;
    visit.goes_on("forward").await;
    visit.site.close().await;
}
