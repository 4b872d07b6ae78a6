//! Device features that Chromium emulates, and scripts that change the environment of a page.

use serde_json::{Value, json};

use crate::browser::Page;

/// Speed of a page's timers and clocks with [`fast_clock`], relative to real time.
pub const FAST_CLOCK: u32 = 10;

/// Returns a script for [`Page::before_load`] that makes the timers and clocks of the page run [`FAST_CLOCK`] times as
/// fast.
pub fn fast_clock() -> String {
    format!(
        "{{ const rate = {FAST_CLOCK}; const start = Date.now(); const now = Date.now; const RealDate = Date; \
         const wait = {{ setTimeout, setInterval }}; \
         for (const name of ['setTimeout', 'setInterval']) \
           window[name] = (call, ms = 0, ...more) => wait[name].call(window, call, ms / rate, ...more); \
         Date.now = () => start + (now() - start) * rate; \
         window.Date = new Proxy(RealDate, {{ construct: (target, args, made) => \
           Reflect.construct(target, args.length ? args : [Date.now()], made) }}); }}"
    )
}

/// Returns a script for [`Page::before_load`] that shifts the clock of the device by `offset_ms` milliseconds.
pub fn shifted_clock(offset_ms: i64) -> String {
    format!(
        "{{ const now = Date.now; const offset = {offset_ms}; Date.now = () => now() + offset; \
         window.Date = new Proxy(Date, {{ construct: (target, args, made) => \
           Reflect.construct(target, args.length ? args : [now() + offset], made) }}); }}"
    )
}

/// Script for [`Page::before_load`] that records the sockets of the page.
///
/// `sentFrames` lists the frames that were sent as `[ms since the start, URL, text]`. `answeredPings` lists the URLs of
/// sockets that have received a `pong`. `openedSockets` is the number of sockets that were opened.
pub const RECORD_FRAMES: &str = "window.sentFrames = []; window.answeredPings = []; window.openedSockets = 0; \
    { const { send } = WebSocket.prototype; WebSocket.prototype.send = function (data) { \
        window.sentFrames.push([performance.now(), this.url, data]); return send.call(this, data); }; \
      window.WebSocket = new Proxy(WebSocket, { construct: (target, args, made) => { \
        const socket = Reflect.construct(target, args, made); window.openedSockets++; \
        socket.addEventListener('message', ({ data }) => data.includes('\"pong\"') && window.answeredPings.push(socket.url)); \
        return socket; } }); }";

/// Returns a JavaScript expression that is true if a socket with this path has received a `pong` since
/// [`FORGET_FRAMES`] was last run.
pub fn has_answered(path: &str) -> String {
    format!("window.answeredPings.some((url) => url.includes('{path}'))")
}

/// Script that clears the lists of [`RECORD_FRAMES`].
pub const FORGET_FRAMES: &str = "window.sentFrames.length = window.answeredPings.length = 0";

impl Page {
    /// Registers a script that runs in every document of this window, before the document's own scripts.
    pub async fn before_load(&self, script: &str) {
        self.chromium("Page.addScriptToEvaluateOnNewDocument", json!({"source": script})).await;
    }

    /// Emulates a touch device with a screen of this size, in CSS pixels.
    pub async fn be_touch_device(&self, width: u32, height: u32) {
        self.resize(width, height, true).await;
        self.chromium("Emulation.setTouchEmulationEnabled", json!({"enabled": true, "maxTouchPoints": 5})).await;
    }

    /// Swipes vertically by `distance`, starting at the point (`x`, `y`), in CSS pixels.
    pub async fn swipe(&self, x: f64, y: f64, distance: f64) {
        let touch = async |kind: &str, points: Value| {
            self.chromium("Input.dispatchTouchEvent", json!({"type": kind, "touchPoints": points})).await;
        };
        touch("touchStart", json!([{"x": x, "y": y}])).await;
        for step in 1..=10 {
            touch("touchMove", json!([{"x": x, "y": y + distance * f64::from(step) / 10.0}])).await;
        }
        touch("touchEnd", json!([])).await;
        // Waits until the page has painted the result of the swipe.
        self.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))", &json!([]))
            .await;
    }

    /// Taps the point (`x`, `y`), in CSS pixels.
    pub async fn tap(&self, x: f64, y: f64) {
        for (kind, points) in [("touchStart", json!([{"x": x, "y": y}])), ("touchEnd", json!([]))] {
            self.chromium("Input.dispatchTouchEvent", json!({"type": kind, "touchPoints": points})).await;
        }
    }

    /// Disconnects the device from the network or reconnects it. The page receives an `offline` or `online` event.
    /// While the device is offline, requests fail.
    pub async fn set_offline(&self, offline: bool) {
        self.chromium("Network.enable", json!({})).await;
        let conditions = json!({"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
        self.chromium("Network.emulateNetworkConditions", conditions).await;
    }

    /// Returns the value of a JavaScript expression.
    pub async fn value(&self, expression: &str) -> Value {
        self.run(&format!("return {expression}"), &json!([])).await
    }

    /// Returns the value of a JavaScript expression, which must be a number.
    pub async fn number(&self, expression: &str) -> f64 {
        let value = self.value(expression).await;
        value.as_f64().unwrap_or_else(|| panic!("{expression} is {value}"))
    }

    /// Presses one key per character of `text`. The focused element receives the events.
    pub async fn type_keys(&self, text: &str) {
        for key in text.chars() {
            self.press(&key.to_string()).await;
        }
    }
}
