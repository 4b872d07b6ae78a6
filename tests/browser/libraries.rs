//! Tests the widget on pages that use libraries from npm.

use serde_json::json;

use crate::browser::Browser;
use crate::people::{Guest, Host};
use crate::shop::{LIBRARIES, Reply, library, page};
use crate::site::Site;
use crate::talk::no_complaints;

/// Opens a page that contains a library and the widget, and signs the host in to the console. Returns the guest and the
/// host.
async fn beside(site: &Site, browser: &std::sync::Arc<Browser>, name: &str, head: &str, body: &str) -> (Guest, Host) {
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    let end = format!("{body}{}", site.tag(&site.nodes[0].url("")));
    site.shop.serve(&format!("/{name}"), Reply::html(&page("Shop", head, &end)));
    let guest = Guest::visit(browser.first_page().await, &format!("{}{name}", site.shop.url())).await;
    (guest, host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_conversation_works_on_a_page_with_prototype_js_1_6() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let body = "<main><h1>Shop</h1><p id=\"shown\">Things</p></main>";
    let (guest, host) = beside(&site, &browser, "prototype", &library("flotr2/lib/prototype.js"), body).await;
    assert_eq!(
        guest.page.value("[Prototype.Version, typeof Array.prototype.toJSON]").await,
        json!(["1.6.0.3", "function"])
    );
    assert_eq!(guest.page.value("JSON.stringify(['a'])").await, "\"[\\\"a\\\"]\"", "the library replaces toJSON");
    guest.send_text("one").await;
    guest.paste("<b>\"two\"</b> {3} https://shop.example/ [4]").await;
    guest.sees(&["me: one", "me: <b>\"two\"</b> {3} https://shop.example/ [4]"]).await;
    host.choose_first().await;
    guest.page.remember(&Guest::at(".notice")).await;
    host.page.keys("document.querySelector('.writing textarea')", "ans").await;
    guest.page.has_shown("is typing").await;
    host.send_text("wer").await;
    let seen = ["me: one", "me: <b>\"two\"</b> {3} https://shop.example/ [4]", "they: answer"];
    guest.sees(&seen).await;
    host.sees(&["they: one", "they: <b>\"two\"</b> {3} https://shop.example/ [4]", "me: answer"]).await;
    guest.page.until("it was read", &format!("{}.textContent.includes('Read')", Guest::at(".talk"))).await;
    // Pages with and without the library can read the same stored data.
    guest.page.reload().await;
    guest.sees(&seen).await;
    guest.page.visit(&site.shop.url()).await;
    guest.sees(&seen).await;
    guest.page.visit(&format!("{}prototype", site.shop.url())).await;
    guest.sees(&seen).await;
    guest.page.run("document.querySelector('pintalk-widget').toggle(false)", &json!([])).await;
    host.send_text("unread").await;
    guest.page.until("it is unread", &format!("{}?.textContent === '1'", Guest::at(".badge:not([hidden])"))).await;
    guest.page.until("and in the title", "document.title === '(1) Shop'").await;
    // The host closes the room, and the next message of the guest reopens it.
    guest.open().await;
    host.press("Close").await;
    host.confirm().await;
    guest.sees_notice("This conversation is closed").await;
    guest.send_text("again").await;
    guest.sees(&[&seen[..], &["they: unread", "me: again"]].concat()).await;
    // The library still works on the page.
    guest.page.run("$('shown').update('Other').show(); $$('h1').invoke('hide')", &json!([])).await;
    assert_eq!(guest.page.value("$('shown').innerHTML").await, "Other");
    no_complaints(&browser).await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_bootstrap_modal_does_not_take_the_focus_from_the_widget() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let head = format!("<link rel=\"stylesheet\" href=\"{LIBRARIES}bootstrap/dist/css/bootstrap.min.css\">");
    let body = format!(
        "<main><h1>Shop</h1></main><div class=\"modal\" id=\"cart\" tabindex=\"-1\"><div class=\"modal-dialog\"><div class=\"modal-content\">\
         <input id=\"coupon\"><button class=\"btn\" data-bs-dismiss=\"modal\">Close</button></div></div></div>\
         <div class=\"offcanvas offcanvas-start\" id=\"menu\" tabindex=\"-1\"><input></div>{}",
        library("bootstrap/dist/js/bootstrap.bundle.min.js")
    );
    let (guest, host) = beside(&site, &browser, "bootstrap", &head, &body).await;
    for (kind, id) in [("Modal", "cart"), ("Offcanvas", "menu")] {
        let show = format!(
            "window.isShown = false; const box = document.querySelector('#{id}'); \
             box.addEventListener('shown.bs.{}', () => (window.isShown = true)); window.box = new bootstrap.{kind}(box); window.box.show()",
            kind.to_lowercase()
        );
        guest.page.run(&show, &json!([])).await;
        guest.page.until("it is shown", "window.isShown").await;
        guest.page.click(&Guest::at("textarea")).await;
        let text = format!("ask/likes? {kind}");
        guest.page.type_keys(&text).await;
        assert_eq!(guest.page.value(&format!("{}.value", Guest::at("textarea"))).await, text);
        guest.page.press("Tab").await;
        let inside = "document.activeElement.localName === 'pintalk-widget'";
        assert_eq!(guest.page.value(inside).await, true, "the focus was taken");
        guest.page.click(&Guest::at("textarea")).await;
        guest.page.press("Enter").await;
        let newest = "document.querySelector('.rooms .room')?.textContent.includes(arguments[0])";
        host.page.until_with("it arrives", newest, &json!([text])).await;
        // The modal is still open.
        let shown = format!("document.querySelector('#{id}').classList.contains('show')");
        assert_eq!(guest.page.value(&shown).await, true, "a click in the widget closed it");
        let hide = format!(
            "window.isHidden = false; document.querySelector('#{id}').addEventListener('hidden.bs.{}', () => (window.isHidden = true)); window.box.hide()",
            kind.to_lowercase()
        );
        guest.page.run(&hide, &json!([])).await;
        guest.page.until("it is hidden", "window.isHidden").await;
    }
    no_complaints(&browser).await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zone_js_polyfills_and_outside_click_handlers_work_beside_the_widget() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let checks = "<script>window.checks = 0; const zone = Zone.current.fork({ name: 'app', \
        onHasTask: (parent, current, target, state) => { window.checks++; parent.hasTask(target, state) } }); window.zone = zone</script>";
    let head = library("core-js-bundle/minified.js") + &library("zone.js/bundles/zone.umd.min.js") + checks;
    let (guest, host) = beside(&site, &browser, "zone", &head, "<main><h1>Shop</h1></main>").await;
    guest.send_text("in a zone").await;
    host.choose_first().await;
    host.send_text("answer").await;
    guest.sees(&["me: in a zone", "they: answer"]).await;
    guest.page.reload().await;
    guest.sees(&["me: in a zone", "they: answer"]).await;
    no_complaints(&browser).await;
    site.close().await;
}
