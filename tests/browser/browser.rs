//! Chromium, which each test controls over WebDriver. Each test starts its own browser.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{TIMEOUT, eventually};

/// Name of the JSON field that contains the id of an element in WebDriver.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Maximum duration of a script, including the promise that it waits for.
const SCRIPT: Duration = Duration::from_secs(120);

/// WebDriver error for an element that is no longer in the page.
const STALE: &str = "stale element reference";

/// Code of the Enter key in WebDriver.
pub const ENTER: &str = "\u{e007}";

/// Code of the Escape key in WebDriver.
pub const ESCAPE: &str = "\u{e00c}";

/// WebDriver process and its Chromium. Both end on drop, or when the test process ends.
pub struct Browser {
    driver: Child,
    session: String,
    http: reqwest::Client,
    /// Window that the browser opened on startup.
    first: Value,
    /// Window to which WebDriver currently sends commands.
    window: Mutex<String>,
    _profile: tempfile::TempDir,
}

/// Browser window.
#[derive(Clone)]
pub struct Page {
    browser: Arc<Browser>,
    window: String,
}

impl Browser {
    /// Starts a browser whose preferred language is `language`.
    pub async fn start(language: &str) -> Arc<Self> {
        Self::start_with(language, json!({})).await
    }

    /// Starts a browser whose preferred language is `language`, with further Chromium preferences.
    pub async fn start_with(language: &str, mut preferences: Value) -> Arc<Self> {
        preferences["intl.accept_languages"] = json!(language);
        let profile = tempfile::tempdir().expect("a folder");
        let mut driver = Command::new("chromedriver");
        driver.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut driver = driver.spawn().expect("chromedriver, as tests/run sees to");
        let reap = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/reap");
        let owner = std::process::id().to_string();
        let watched = Command::new(reap).args([&owner, &driver.id().to_string()]).status();
        assert!(watched.is_ok_and(|status| status.success()), "the driver would outlive a test that is killed");
        let mut lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            line.split_once("started successfully on port ").map(|(_, port)| port.trim_end_matches('.').to_owned())
        });
        let url = format!("http://127.0.0.1:{}/session", port.expect("the driver listens"));
        let profile_flag = format!("--user-data-dir={}", profile.path().display());
        let language_flag = format!("--accept-lang={language}");
        let arguments = json!([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1280,800",
            // Chromium ends when the driver ends, even if the driver is killed.
            "--remote-debugging-pipe",
            profile_flag,
            language_flag,
        ]);
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "timeouts": {"script": SCRIPT.as_millis() as u64},
            "goog:chromeOptions": {"args": arguments, "prefs": preferences},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let http = reqwest::Client::builder().timeout(2 * SCRIPT).build().expect("a client");
        let session = post(&http, &url, &wanted).await["sessionId"].as_str().expect("a session").to_owned();
        let session = format!("{url}/{session}");
        let mut browser =
            Self { driver, session, http, first: Value::Null, window: Mutex::default(), _profile: profile };
        browser.first = browser.get("/window").await;
        Arc::new(browser)
    }

    pub async fn first_page(self: &Arc<Self>) -> Page {
        self.page(&self.first).await
    }

    /// Opens another window.
    pub async fn open_page(self: &Arc<Self>) -> Page {
        let opened = self.post("/window/new", &json!({"type": "window"})).await;
        self.page(&opened["handle"]).await
    }

    async fn page(self: &Arc<Self>, window: &Value) -> Page {
        let page = Page { browser: self.clone(), window: window.as_str().expect("a window").to_owned() };
        // Windows belong to different users. Each window must behave as if it had the focus.
        page.chromium("Emulation.setFocusEmulationEnabled", json!({"enabled": true})).await;
        page
    }

    /// Returns the console messages that all pages have written since the last call.
    pub async fn log(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({"type": "browser"})).await;
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    pub async fn windows(&self) -> usize {
        self.get("/window/handles").await.as_array().map_or(0, Vec::len)
    }

    async fn get(&self, path: &str) -> Value {
        read(self.http.get(format!("{}{path}", self.session)).send().await).await
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        post(&self.http, &format!("{}{path}", self.session), body).await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = format!("-{}", self.driver.id());
        let sent = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        drop(sent);
        let _gone = self.driver.wait();
    }
}

async fn post(http: &reqwest::Client, url: &str, body: &Value) -> Value {
    read(http.post(url).json(body).send().await).await
}

async fn read(answer: reqwest::Result<reqwest::Response>) -> Value {
    let mut body: Value = answer.expect("the driver answers").json().await.expect("JSON");
    let value = body["value"].take();
    assert!(value["error"].is_null() || value["error"] == STALE, "{}: {}", value["error"], value["message"]);
    value
}

impl Page {
    /// Sends a command to this window. Commands to different windows are serialised.
    async fn post(&self, path: &str, body: &Value) -> Value {
        let mut current = self.browser.window.lock().await;
        if *current != self.window {
            self.browser.post("/window", &json!({"handle": self.window})).await;
            current.clone_from(&self.window);
        }
        self.browser.post(path, body).await
    }

    pub async fn visit(&self, url: &str) {
        self.post("/url", &json!({"url": url})).await;
    }

    pub async fn reload(&self) {
        self.post("/refresh", &json!({})).await;
    }

    /// Runs a script in the page. If the script returns a promise, waits for its value.
    pub async fn run(&self, script: &str, arguments: &Value) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": arguments})).await
    }

    /// Waits until a JavaScript expression is true.
    pub async fn until(&self, what: &str, expression: &str) {
        self.until_with(what, expression, &json!([])).await;
    }

    /// Waits until a JavaScript expression, which may use `arguments`, is true. On timeout, prints the text of the
    /// page.
    pub async fn until_with(&self, what: &str, expression: &str, arguments: &Value) {
        let script = format!("return Boolean({expression})");
        let seen = eventually(what, TIMEOUT, async || self.run(&script, arguments).await.as_bool().filter(|is| *is));
        if tokio::time::timeout(TIMEOUT - Duration::from_secs(1), seen).await.is_err() {
            let deep = "const text = (root) => [...root.querySelectorAll('*')].filter((one) => one.shadowRoot) \
                        .map((one) => text(one.shadowRoot)).join() + (root.body ?? root.querySelector('.panel'))?.innerText; \
                        return text(document)";
            panic!("in vain: {what}\n{}\n{:#?}", self.run(deep, &json!([])).await, self.browser.log().await);
        }
    }

    /// Starts recording every text that an element shows.
    pub async fn remember(&self, find: &str) {
        let script = format!(
            "const said = {find}; window.said = []; new MutationObserver(() => window.said.push(said.textContent)) \
             .observe(said, {{ childList: true, characterData: true, subtree: true }})"
        );
        self.run(&script, &json!([])).await;
    }

    /// Waits until one of the recorded texts contains `text`.
    pub async fn has_shown(&self, text: &str) {
        let said = "window.said.some((said) => said.includes(arguments[0]))";
        self.until_with(&format!("it has been said: {text}"), said, &json!([text])).await;
    }

    async fn element(&self, find: &str) -> String {
        let found = eventually(find, TIMEOUT, async || {
            self.run(&format!("return {find}"), &json!([])).await[ELEMENT].as_str().map(str::to_owned)
        });
        found.await
    }

    /// Sends a command to an element when it exists. Sends the command again if the page has replaced the element.
    async fn act(&self, find: &str, what: &str, body: &Value) {
        eventually(find, TIMEOUT, async || {
            let element = self.element(find).await;
            let done = self.post(&format!("/element/{element}/{what}"), body).await;
            (done["error"] != STALE).then_some(())
        })
        .await;
    }

    pub async fn click(&self, find: &str) {
        self.act(find, "click", &json!({})).await;
    }

    pub async fn keys(&self, find: &str, keys: &str) {
        self.act(find, "value", &json!({"text": keys})).await;
    }

    /// Presses and releases a key. The focused element receives the events.
    pub async fn press(&self, key: &str) {
        let value = match key {
            "Tab" => "\u{e004}",
            "Enter" => ENTER,
            "Escape" => ESCAPE,
            other => other,
        };
        let strokes = json!([{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]);
        self.post("/actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": strokes}]})).await;
    }

    /// Pastes text into a field. The text may contain characters that no key produces.
    pub async fn paste(&self, find: &str, text: &str) {
        self.element(find).await;
        let script = format!("{find}.focus(); document.execCommand('insertText', false, arguments[0])");
        self.run(&script, &json!([text])).await;
    }

    /// Runs a Chrome DevTools command and returns its result.
    pub async fn chromium(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters})).await
    }

    /// Emulates a screen of the given size, in CSS pixels.
    pub async fn resize(&self, width: u32, height: u32, is_phone: bool) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone});
        self.chromium("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Emulates a light or dark colour scheme, and a preference for reduced motion.
    pub async fn prefer(&self, scheme: &str) {
        let still = json!({"name": "prefers-reduced-motion", "value": "reduce"});
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}, still]});
        self.chromium("Emulation.setEmulatedMedia", features).await;
    }

    /// Returns a screenshot as a PNG file.
    pub async fn picture(&self) -> Vec<u8> {
        let shot = self.chromium("Page.captureScreenshot", json!({})).await;
        let shot = shot["data"].as_str().expect("a picture");
        base64::engine::general_purpose::STANDARD.decode(shot).expect("base64")
    }

    /// Switches to the first frame of the page. Subsequent commands apply to this frame.
    pub async fn enter_frame(&self) {
        self.post("/frame", &json!({"id": 0})).await;
    }

    /// Switches back from the frame to the page.
    pub async fn leave_frame(&self) {
        self.post("/frame", &json!({"id": null})).await;
    }
}
