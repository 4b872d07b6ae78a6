//! Tests the console's settings for webhooks and notifications.

use pintalk_kit::webhook_receiver::{Receiver, Reply};
use serde_json::json;

use crate::accounts::{fill, press};
use crate::browser::{Browser, Page};
use crate::looks::is_accessible;
use crate::people::{Guest, Host};
use crate::site::{Site, keep_picture};
use crate::{TIMEOUT, eventually};

/// JavaScript expression for the webhook card.
const CARD: &str = "document.querySelector('.card[aria-label=\"Webhook\"]')";

async fn card_shows(page: &Page, text: &str) {
    let shown = format!("{CARD}?.textContent.includes(arguments[0])");
    page.until_with(&format!("the card shows: {text}"), &shown, &json!([text])).await;
}

/// Returns the webhook secret that the card shows.
async fn secret(page: &Page) -> String {
    eventually("a secret is shown", TIMEOUT, async || {
        let shown = page.run(&format!("return {CARD}?.querySelector('.copyable code')?.textContent"), &json!([])).await;
        shown.as_str().filter(|secret| secret.starts_with("whsec_")).map(str::to_owned)
    })
    .await
}

async fn has_no_secret(page: &Page) {
    page.until("no secret is shown", &format!("{CARD} && !{CARD}.querySelector('.copyable')")).await;
}

async fn save(page: &Page) {
    page.click(&format!("{CARD}.querySelector('.button.main')")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_sets_and_tests_a_webhook_and_sees_the_outcome_of_each_event() {
    let receiver = Receiver::start().await;
    let site = Site::embedded_with(&["--webhook-private", "127.0.0.1"]).await;
    let browser = Browser::start("en-US").await;
    let host = Host::sign_in(browser.open_page().await, &site.nodes[0].url("/console/")).await;
    host.press("Settings").await;

    // The error is shown beside its field.
    fill(&host.page, "url", "shop.example").await;
    save(&host.page).await;
    host.page.until("the field shows the error", "document.querySelector('#field-url-hint.wrong')").await;
    host.page.run("document.querySelector('#field-url').value = ''", &json!([])).await;
    fill(&host.page, "url", &receiver.url()).await;
    let boxes = format!("{CARD}.querySelectorAll('fieldset input')");
    for at in 0..3 {
        host.page.click(&format!("{boxes}[{at}]")).await;
    }
    save(&host.page).await;
    card_shows(&host.page, "Events to send: must be one or more of").await;
    for at in 0..2 {
        host.page.click(&format!("{boxes}[{at}]")).await;
    }
    save(&host.page).await;
    let first = secret(&host.page).await;
    card_shows(&host.page, "Nothing has been sent yet").await;

    press(&host.page, "Send a test").await;
    card_shows(&host.page, "Answered 200 in").await;
    assert!(receiver.received()[0].is_signed_with(&first));
    receiver.reply(Reply::Status(500));
    press(&host.page, "Send a test").await;
    card_shows(&host.page, "Failed: answered 500").await;
    receiver.reply(Reply::Status(204));

    // A guest opens a room and sends a message. Both events are selected.
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    guest.send_text("anybody there?").await;
    receiver.wait_for(4, TIMEOUT).await;
    let kinds: Vec<_> = receiver.received()[2..].iter().map(|event| event.json()["type"].clone()).collect();
    assert_eq!(kinds, ["room.created", "message.created"]);
    let delivered = format!("{CARD}?.textContent.split('delivered').length === 3");
    eventually("both are shown to have arrived", TIMEOUT, async || {
        host.press("Refresh").await;
        host.page.run(&format!("return {delivered}"), &json!([])).await.as_bool().filter(|is| *is)
    })
    .await;
    host.page.resize(1280, 1000, false).await;
    host.page.run(&format!("{CARD}.scrollIntoView()"), &json!([])).await;
    keep_picture(&host.page, "console-webhook").await;
    is_accessible(&host.page, "a webhook and its events").await;

    // The console does not show the secret again, but it can create a new one.
    host.page.reload().await;
    host.is_online().await;
    host.press("Settings").await;
    has_no_secret(&host.page).await;
    press(&host.page, "New secret").await;
    host.confirm().await;
    let second = secret(&host.page).await;
    assert_ne!(first, second);
    card_shows(&host.page, "the previous secret until").await;
    press(&host.page, "New secret").await;
    host.page.click("document.querySelector('dialog input')").await;
    host.confirm().await;
    host.page.until("the old one has ended", &format!("!{CARD}.textContent.includes('the previous secret')")).await;
    let third = secret(&host.page).await;
    guest.send_text("still there?").await;
    receiver.wait_for(5, TIMEOUT).await;
    let received = receiver.received();
    let newest = received.last().expect("an event");
    assert!(newest.is_signed_with(&third) && !newest.is_signed_with(&second));

    // A receiver that answers with 410 disables the webhook. The host is notified.
    receiver.reply(Reply::Status(410));
    guest.send_text("and now?").await;
    receiver.wait_for(6, TIMEOUT).await;
    let gone = format!("{CARD}?.textContent.includes('The receiver returned 410')");
    eventually("its host is notified", TIMEOUT, async || {
        host.page.reload().await;
        host.is_online().await;
        host.press("Settings").await;
        host.page.until("the card is there", &format!("{CARD}?.querySelector('.deliveries li')")).await;
        host.page.run(&format!("return {gone}"), &json!([])).await.as_bool().filter(|is| *is)
    })
    .await;
    assert_eq!(host.page.run("return document.querySelector('[name=enabled]').checked", &json!([])).await, false);
    receiver.reply(Reply::Status(204));
    host.page.click("document.querySelector('[name=enabled]')").await;
    save(&host.page).await;
    host.page.until("it is on again", &format!("!{gone}")).await;
    receiver.wait_for(7, TIMEOUT).await;

    press(&host.page, "Remove").await;
    host.confirm().await;
    host.page.until("it is gone", &format!("!{CARD}.querySelector('.danger')")).await;
    host.page.reload().await;
    host.is_online().await;
    host.press("Settings").await;
    host.page.until("and stays so", "document.querySelector('#field-url')?.value === ''").await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notification_switch_keeps_its_state() {
    let site = Site::embedded().await;
    let browser = Browser::start("ko-KR").await;
    let host = Host::sign_in(browser.first_page().await, &site.nodes[0].url("/console/")).await;
    host.press("설정").await;
    let mails = "document.querySelectorAll('.switch input')[1]";
    for is_on in [false, true] {
        host.page.until("it is as it was left", &format!("{mails}?.checked === {}", !is_on)).await;
        host.page.click(mails).await;
        host.page.until("the server has it", &format!("{mails}.checked === {is_on} && !{mails}.disabled")).await;
        host.page.reload().await;
        host.is_online().await;
        host.press("설정").await;
        host.page.until("and so it is after a reload", &format!("{mails}?.checked === {is_on}")).await;
    }
    site.close().await;
}
