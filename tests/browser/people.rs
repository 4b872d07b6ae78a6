//! A visitor of the shop and a host in the console. They act on the page and read what it shows.

use serde_json::{Value, json};

use crate::browser::{ENTER, Page};
use crate::site::{EMAIL, PASSWORD};

/// JavaScript expression for the shadow root of the widget.
const PANEL: &str = "document.querySelector('pintalk-widget').shadowRoot";

/// Returns a JavaScript expression whose value lists the messages, each as `[mine, state, text]`.
fn messages_in(root: &str) -> String {
    format!(
        "[...{root}.querySelectorAll('.talk li:not(.day)')].map((row) => [row.classList.contains('mine'), \
         row.classList.contains('sending') ? 'sending' : row.classList.contains('failed') ? 'failed' : 'said', \
         row.querySelector('.bubble').textContent])"
    )
}

/// Visitor of the shop.
pub struct Guest {
    pub page: Page,
}

impl Guest {
    /// Opens a page with the widget, and then the panel.
    pub async fn visit(page: Page, url: &str) -> Self {
        page.visit(url).await;
        let guest = Self { page };
        guest.page.until("the launcher is there", &Self::at(".launcher")).await;
        // The widget itself opens the panel if it was open in this tab before.
        if guest.page.value("document.querySelector('pintalk-widget').hasAttribute('open')").await == json!(false) {
            guest.open().await;
        }
        guest.page.until("the panel is open", &format!("{}?.hidden === false", Self::at(".panel"))).await;
        guest
    }

    /// Returns a JavaScript expression for an element of the widget.
    pub fn at(selector: &str) -> String {
        format!("document.querySelector('pintalk-widget')?.shadowRoot.querySelector('{selector}')")
    }

    pub async fn open(&self) {
        self.page.click(&Self::at(".launcher")).await;
        self.page.until("the panel is open", &format!("{}?.hidden === false", Self::at(".panel"))).await;
    }

    /// Opens the panel with the method of the element, if the panel is closed.
    pub async fn show(&self) {
        self.page.until("the launcher is there", &Self::at(".launcher")).await;
        self.page.run("document.querySelector('pintalk-widget').toggle(true)", &json!([])).await;
        self.page.until("the panel is open", &format!("{}?.hidden === false", Self::at(".panel"))).await;
    }

    /// Closes the panel with the method of the element.
    pub async fn hide(&self) {
        self.page.run("document.querySelector('pintalk-widget').toggle(false)", &json!([])).await;
        self.page.until("the panel is closed", &format!("{}?.hidden !== false", Self::at(".panel"))).await;
    }

    pub async fn send_text(&self, text: &str) {
        self.page.keys(&Self::at("textarea"), &format!("{text}{ENTER}")).await;
    }

    /// Types and sends a text. Uses only keyboard events, because the page may have replaced functions that other
    /// commands call.
    pub async fn type_and_send(&self, text: &str) {
        self.page.run(&format!("{}.focus()", Self::at("textarea")), &json!([])).await;
        self.page.type_keys(text).await;
        self.page.press("Enter").await;
    }

    /// Pastes and sends a text. The text may contain characters that no key produces.
    pub async fn paste(&self, text: &str) {
        self.page.paste(&Self::at("textarea"), text).await;
        self.page.click(&Self::at(".send:not(:disabled)")).await;
    }

    pub async fn messages(&self) -> Vec<(bool, String, String)> {
        read(&self.page.run(&format!("return {}", messages_in(PANEL)), &json!([])).await)
    }

    /// Waits until exactly these messages are shown in this order. Each message starts with its sender, `me: ` or
    /// `they: `. A message that is not acknowledged starts with `sending me: ` or `failed me: `.
    pub async fn sees(&self, wanted: &[&str]) {
        sees(&self.page, PANEL, wanted).await;
    }

    /// Waits until the line below the messages contains `text`.
    pub async fn sees_notice(&self, text: &str) {
        let notice = format!("{}?.textContent.includes(arguments[0])", Self::at(".notice"));
        self.page.until_with(&format!("the guest sees the notice: {text}"), &notice, &json!([text])).await;
    }
}

/// Host in the console.
pub struct Host {
    pub page: Page,
}

impl Host {
    /// Opens the console and signs in.
    pub async fn sign_in(page: Page, url: &str) -> Self {
        page.visit(url).await;
        page.keys("document.querySelector('#field-email')", EMAIL).await;
        page.keys("document.querySelector('#field-password')", &format!("{PASSWORD}{ENTER}")).await;
        let host = Self { page };
        host.is_online().await;
        host
    }

    pub async fn is_online(&self) {
        self.page.until("the host is online", "document.querySelector('.me .dot.on')").await;
    }

    /// Opens the first room of the list. Waits until the list contains a room.
    pub async fn choose_first(&self) {
        self.page.click("document.querySelector('.rooms .room')").await;
        self.page.until("the conversation is open", "document.querySelector('.conversation .writing')").await;
    }

    pub async fn send_text(&self, text: &str) {
        self.page.keys("document.querySelector('.writing textarea')", &format!("{text}{ENTER}")).await;
    }

    pub async fn paste(&self, text: &str) {
        self.page.paste("document.querySelector('.writing textarea')", text).await;
        self.page.click("document.querySelector('.writing .send:not(:disabled)')").await;
    }

    pub async fn sees(&self, wanted: &[&str]) {
        sees(&self.page, "document", wanted).await;
    }

    pub async fn messages(&self) -> Vec<(bool, String, String)> {
        read(&self.page.run(&format!("return {}", messages_in("document")), &json!([])).await)
    }

    /// Clicks the button of the console whose label is `label`.
    pub async fn press(&self, label: &str) {
        self.page.click(&format!("document.querySelector('[aria-label=\"{label}\"]')")).await;
    }

    /// Clicks the confirmation button of the dialog.
    pub async fn confirm(&self) {
        self.page.click("document.querySelector('dialog .danger')").await;
        self.page.until("the question is gone", "!document.querySelector('dialog')").await;
    }
}

fn read(messages: &Value) -> Vec<(bool, String, String)> {
    serde_json::from_value(messages.clone()).expect("messages")
}

async fn sees(page: &Page, root: &str, wanted: &[&str]) {
    let lines = format!(
        "JSON.stringify({}.map(([mine, state, text]) => `${{state === 'said' ? '' : state + ' '}}${{mine ? 'me' : 'they'}}: \
         ${{text}}`)) === JSON.stringify(arguments[0])",
        messages_in(root)
    );
    page.until_with(&format!("exactly this is shown: {wanted:?}"), &lines, &json!([wanted])).await;
}
