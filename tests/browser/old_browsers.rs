//! Tests the console in browsers that are too old, and in browsers without some features.

use crate::browser::Browser;
use crate::people::Host;
use crate::site::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsupported_browsers_are_named_and_firefox_without_dialogs_can_confirm() {
    let site = Site::embedded().await;
    let browser = Browser::start("en-US").await;
    let old = browser.first_page().await;
    old.before_load("delete Array.prototype.at").await;
    old.visit(&site.nodes[0].url("/console/")).await;
    old.until("it is explained", "document.querySelector('#app').textContent.includes('Safari 15.4')").await;

    let page = browser.open_page().await;
    page.before_load("delete HTMLDialogElement.prototype.showModal; delete Array.prototype.findLast").await;
    let host = Host::sign_in(page, &site.nodes[0].url("/console/")).await;
    site.send_text(&site.open_room(&reqwest::Client::new()).await, &["one"]).await;
    host.choose_first().await;
    host.press("Close").await;
    let is_asked =
        "document.querySelector('[role=dialog][aria-modal]') && document.activeElement.textContent === 'Cancel'";
    host.page.until("the question has the focus", is_asked).await;
    host.page.press("Escape").await;
    host.page
        .until("no is an answer", "!document.querySelector('dialog') && !document.querySelector('.writing').hidden")
        .await;
    host.press("Close").await;
    host.confirm().await;
    host.page.until("yes is one", "document.querySelector('.writing').hidden").await;
    site.close().await;
}
