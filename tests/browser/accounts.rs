//! Tests the console for a host's account, from sign-up to deactivation.

use pintalk_kit::mail_server::MailServer;
use serde_json::json;

use crate::browser::{Browser, ENTER, Page};
use crate::looks::is_accessible;
use crate::people::{Guest, Host};
use crate::site::{Site, keep_picture, readme_tags};

const NEW: &str = "new@shop.example";

/// Pastes text into a field of a form.
pub async fn fill(page: &Page, name: &str, text: &str) {
    page.paste(&format!("document.querySelector('#field-{name}')"), text).await;
}

/// Clicks the button whose text is `text`.
pub async fn press(page: &Page, text: &str) {
    page.click(&format!("[...document.querySelectorAll('button')].find((one) => one.textContent === '{text}')")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_signs_up_by_email_uses_and_edits_the_account_and_leaves() {
    let mails = MailServer::start().await;
    let site = Site::embedded_with(&["--smtp-url", &format!("smtp://{}", mails.address)]).await;
    let browser = Browser::start("en-US").await;
    let page = browser.open_page().await;
    page.visit(&site.nodes[0].url("/console/")).await;
    press(&page, "Create an account").await;
    fill(&page, "email", NEW).await;
    press(&page, "E-mail me a code").await;
    let code = mails.code(6).await;
    fill(&page, "verificationCode", &code).await;
    press(&page, "Confirm").await;
    fill(&page, "serviceName", "Second shop").await;
    fill(&page, "serviceExpl", "Sells other things").await;
    // The error is shown beside its field.
    fill(&page, "password", "short").await;
    page.click("document.querySelector('.form .main')").await;
    page.until("the field shows the error", "document.querySelector('#field-password-hint.wrong')").await;
    keep_picture(&page, "console-sign-up").await;
    is_accessible(&page, "signing up").await;
    page.run("document.querySelector('#field-password').value = ''", &json!([])).await;
    fill(&page, "password", "a password of mine").await;
    fill(&page, "serviceDomain", &site.shop.address.to_string()).await;
    page.click("document.querySelector('.form .main')").await;
    let host = Host { page };
    host.is_online().await;

    // The widget works on a page that contains the tag from the console.
    host.press("Settings").await;
    let keys = host
        .page
        .run("return [...document.querySelectorAll('.copyable code')].map((one) => one.textContent)", &json!([]))
        .await;
    let (access, secret) = (keys[0].as_str().expect("a key"), keys[1].as_str().expect("a key"));
    let [tag, _] = readme_tags(access, secret);
    let tag = tag.replace("https://chat.shop.example", &site.nodes[0].url(""));
    assert_eq!(keys[2], tag);
    site.shop.show_with("", &tag);
    fill(&host.page, "profileName", " and sons").await;
    host.page.click("document.querySelector('.card .form .main')").await;
    host.page
        .until("the name is shown", "document.querySelector('.me b').textContent === 'Second shop and sons'")
        .await;
    let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
    let name = format!("{}.textContent === 'Second shop and sons'", Guest::at(".name"));
    guest.page.until("guests see it, too", &name).await;
    guest.send_text("one\u{e008}\u{e007}\u{e008}two").await;
    guest.sees(&["me: one\ntwo"]).await;

    // The host pins, searches and exports rooms.
    host.choose_first().await;
    host.sees(&["they: one\ntwo"]).await;
    host.press("Pin").await;
    host.page.until("it is pinned", "document.querySelector('.rooms .pinned')").await;
    host.press("Unpin").await;
    host.page.until("it is not", "!document.querySelector('.rooms .pinned')").await;
    let search = "document.querySelector('.filters input')";
    host.page.keys(search, "nobody").await;
    host.page.until("nothing is found", "!document.querySelector('.rooms .room')").await;
    host.page.run(&format!("{search}.value = ''; {search}.oninput()"), &json!([])).await;
    host.page.until("all are back", "document.querySelector('.rooms .room')").await;
    let watch = "const make = URL.createObjectURL; URL.createObjectURL = (blob) => { blob.text().then((text) => (window.text = text)); \
                 return make.call(URL, blob); }";
    host.page.run(watch, &json!([])).await;
    host.press("Export as text").await;
    host.page.until("the file has it", "/one\\n\\s+two/.test(window.text)").await;

    // The host uploads a profile image, which guests see. The host then copies and replaces the keys.
    host.press("Settings").await;
    let no_picture = "const to = document.querySelector('[type=file]'); const files = new DataTransfer(); \
        files.items.add(new File(['no picture'], 'me.png', { type: 'image/png' })); to.files = files.files; \
        to.dispatchEvent(new Event('change'))";
    host.page.run(no_picture, &json!([])).await;
    let says = "document.querySelector('#toasts').textContent.includes('Picture: is not a PNG')";
    host.page.until("the error is shown", says).await;
    let choose = "const to = document.querySelector('[type=file]'); \
        const canvas = document.createElement('canvas'); canvas.width = canvas.height = 64; \
        const paper = canvas.getContext('2d'); paper.fillStyle = '#3a7'; paper.fillRect(0, 0, 64, 64); \
        return new Promise((resolve) => canvas.toBlob((blob) => { const files = new DataTransfer(); \
          files.items.add(new File([blob], 'me.png', { type: 'image/png' })); to.files = files.files; \
          to.dispatchEvent(new Event('change')); resolve(true); }))";
    host.page.run(choose, &json!([])).await;
    host.page.until("the image is shown", "document.querySelector('.me .avatar img')?.naturalWidth > 0").await;
    guest.page.reload().await;
    guest.page.until("guests see it", &format!("{}?.naturalWidth > 0", Guest::at(".avatar img"))).await;
    press(&host.page, "Remove").await;
    host.page.until("it is gone", "!document.querySelector('.me .avatar img')").await;
    let copied = "navigator.clipboard.writeText = async (text) => { window.copied = text; }";
    host.page.run(copied, &json!([])).await;
    host.press("Copy: Access key").await;
    host.page.until_with("the key is copied", "window.copied === arguments[0]", &json!([access])).await;
    press(&host.page, "New keys").await;
    host.page.click("document.querySelector('dialog input')").await;
    host.confirm().await;
    let is_new = "document.querySelector('.copyable code').textContent !== arguments[0]";
    host.page.until_with("the keys are others", is_new, &json!([access])).await;
    let keys = "return [...document.querySelectorAll('.copyable code')].map((one) => one.textContent)";
    let keys = host.page.run(keys, &json!([])).await;
    let widget = site.nodes[0].url("/widget.js");
    site.shop.show(&widget, keys[0].as_str().expect("a key"), keys[1].as_str().expect("a key"));

    // The host changes the password. The previous password is then rejected.
    fill(&host.page, "currentPassword", "a password of mine").await;
    fill(&host.page, "newPassword", "another password").await;
    press(&host.page, "Change password").await;
    host.page
        .until("it is changed", "document.querySelector('#toasts').textContent.includes('Password changed')")
        .await;
    host.press("Sign out").await;
    host.page.keys("document.querySelector('#field-email')", NEW).await;
    let password = "document.querySelector('#field-password')";
    host.page.keys(password, &format!("a password of mine{ENTER}")).await;
    host.page.until("it is refused", "document.querySelector('.trouble').textContent").await;
    host.page.run(&format!("{password}.value = ''"), &json!([])).await;
    host.page.keys(password, &format!("another password{ENTER}")).await;
    host.is_online().await;

    // The page now contains the new keys. The conversation continues.
    guest.page.reload().await;
    guest.sees(&["me: one\ntwo"]).await;
    // The host deactivates the account. The keys are then unknown, and the widget logs this.
    host.press("Settings").await;
    fill(&host.page, "password", "another password").await;
    press(&host.page, "Deactivate the account").await;
    let asked = "document.querySelector('dialog[open]') && document.activeElement.textContent === 'Cancel'";
    host.page.until("a confirmation is shown, and Enter would cancel", asked).await;
    keep_picture(&host.page, "console-question").await;
    is_accessible(&host.page, "a question").await;
    host.confirm().await;
    host.page.until("the sign-in page is shown", "document.querySelector('.signin')").await;
    guest.page.reload().await;
    let logged = crate::eventually("the log explains the problem", crate::TIMEOUT, async || {
        browser.log().await.into_iter().find(|line| line.contains("PinTalk: "))
    });
    assert!(logged.await.contains("keys are unknown"));
    site.close().await;
}
