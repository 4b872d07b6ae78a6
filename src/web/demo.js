// The demo page: a guest and a host who really talk, each with his own sockets.
// Whatever somebody else wrote reaches the page through textContent only.
"use strict";

const ROOM_KEY = "pintalk-demo-room";
const PAGE = 50; // messages the server sends at once
const POLL_MS = 3000;
const LONGEST_WAIT_MS = 30000;
// After these codes coming back would be no use: the answer would be the same.
const FINAL_CODES = new Set([1000, 1009, 4000, 4001, 4003, 4004, 4009]);

const byId = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
// The sender's wall clock in Korea (UTC+9), as the protocol has it.
const wallClock = () => new Date(Date.now() + 9 * 3600e3).toISOString().slice(0, 23);
// crypto.randomUUID would want https.
const randomId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

function make(tag, text = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

async function call(method, path, headers = {}, body = undefined) {
  const json = body === undefined ? {} : { "Content-Type": "application/json" };
  const response = await fetch(path, { method, headers: { ...json, ...headers }, body: body && JSON.stringify(body) });
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (response.ok) return answer;
  throw Object.assign(new Error(answer?.detail ?? `HTTP ${response.status}`), { status: response.status });
}

function showPresence(side, online, text) {
  byId(`${side}-dot`).classList.toggle("on", online);
  byId(`${side}-presence`).textContent = text;
}

/** A WebSocket that comes back: `on.query(again)`, `on.opened()`, `on.frame(frame)`, `on.waiting(ms)`, `on.ended(code, reason)`. */
class Line {
  constructor(path, on) {
    Object.assign(this, { path, on, tries: 0, again: false, socket: null, timer: 0 });
    this.connect();
  }

  connect() {
    const url = new URL(this.path, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.search = new URLSearchParams(this.on.query?.(this.again) ?? {});
    const socket = new WebSocket(url);
    const begun = performance.now();
    this.socket = socket;
    socket.onopen = () => this.on.opened?.();
    socket.onmessage = (event) => {
      // The server refuses by opening and closing, so only a frame, or time, shows that it took us.
      this.taken();
      this.on.frame(JSON.parse(event.data));
    };
    socket.onclose = ({ code, reason }) => {
      if (performance.now() - begun > 5000) this.taken();
      if (FINAL_CODES.has(code)) return this.on.ended?.(code, reason);
      const asked = /retry in (\d+) ms/.exec(reason);
      const backoff = Math.min(LONGEST_WAIT_MS, 500 * 2 ** this.tries++) * (0.5 + Math.random() / 2);
      const wait = Math.round(asked ? Number(asked[1]) : backoff);
      this.on.waiting?.(wait);
      this.timer = setTimeout(() => this.connect(), wait);
    };
  }

  taken() {
    this.tries = 0;
    this.again = true;
  }

  send(frame) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  hangUp() {
    clearTimeout(this.timer);
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close(1000);
  }
}

/** One side's view of one room: the list of messages, what is on its way, and the socket. */
class Talk {
  constructor(side, on) {
    Object.assign(this, { side, on, isHost: side === "host", line: null });
    this.log = byId(`${side}-log`);
    this.older = byId(`${side}-older`);
    this.older.onclick = () => this.line?.send({ type: "request", before: this.first });
    const text = byId(`${side}-text`);
    byId(`${side}-form`).onsubmit = (event) => {
      event.preventDefault();
      if (!text.value.trim()) return;
      if (!this.line && !this.on.wake) return this.happened("not sent: no open room is chosen");
      this.write(text.value);
      text.value = "";
    };
    this.clear();
  }

  clear() {
    this.leave();
    this.log.replaceChildren();
    this.older.hidden = true;
    // `shown`: seq to element; `pending`: id to {frame, item, at}; first and last seq shown.
    Object.assign(this, { shown: new Map(), pending: new Map(), first: Infinity, last: 0 });
  }

  hint(text) {
    byId(`${this.side}-hint`).textContent = text;
  }

  happened(text) {
    byId(`${this.side}-happened`).textContent = text;
  }

  enter(path, token) {
    this.leave();
    this.line = new Line(path, {
      // The first time the newest messages come by themselves; later, everything after the last one that was seen.
      query: (again) => ({ ...(again && { after: this.last }), ...(token && { token: token() }) }),
      opened: () => {
        this.hint("");
        // What was not acknowledged goes out again under the same id: the server takes it once.
        for (const { frame } of this.pending.values()) this.line.send(frame);
      },
      frame: (frame) => this.frame(frame),
      waiting: (ms) => this.hint(`connection lost: back in ${ms} ms`),
      ended: (code, reason) => {
        this.line = null;
        if (code === 4000 || code === 1009) this.dropPending();
        this.on.ended(code, reason);
      },
    });
  }

  leave() {
    this.line?.hangUp();
    this.line = null;
  }

  frame(frame) {
    if (frame.type === "chat_message" && frame.data) {
      for (const message of frame.data) this.add(message);
      // A page that ends at the oldest one shown, or an empty one, tells whether there are any before it.
      const oldest = Math.min(...frame.data.map((message) => message.seq));
      if (oldest === this.first || oldest === Infinity) this.older.hidden = this.first <= 1 || frame.data.length < PAGE;
      this.happened(`${frame.data.length} stored messages, up to #${this.last}`);
    } else if (frame.type === "chat_message") {
      this.add(frame);
    } else if (frame.message === "closed") {
      this.happened("the room was closed");
    }
    this.on.frame?.(frame);
  }

  add(message) {
    const { seq } = message;
    const mine = message.is_host === this.isHost;
    const sent = mine && this.pending.get(message.id);
    if (sent) {
      sent.item.remove();
      this.pending.delete(message.id);
      this.happened(`#${seq} acknowledged ${(performance.now() - sent.at).toFixed(1)} ms after it was sent`);
    } else if (!this.shown.has(seq)) {
      this.happened(`#${seq} received`);
    }
    if (this.shown.has(seq)) return;
    if (!mine) this.hint("");
    const item = this.item(message.message, mine, `#${seq} · ${message.datetime.slice(11, 19)}`);
    const before = this.shown.get(seq - 1) ?? [...this.log.children].findLast((other) => Number(other.dataset.seq) < seq);
    item.dataset.seq = seq;
    if (before) before.after(item);
    else this.log.prepend(item);
    this.shown.set(seq, item);
    this.first = Math.min(this.first, seq);
    if (seq > this.last) {
      this.last = seq;
      this.scrollDown();
    }
  }

  item(text, mine, print) {
    const item = make("li");
    item.className = mine ? "mine" : "theirs";
    item.append(make("p", text), make("small", print));
    return item;
  }

  write(text) {
    const frame = { type: "chat_message", is_host: this.isHost, message: text, datetime: wallClock(), id: randomId() };
    const item = this.item(text, true, "sending…");
    item.classList.add("pending");
    this.log.append(item);
    this.scrollDown();
    this.pending.set(frame.id, { frame, item, at: performance.now() });
    if (this.line) this.line.send(frame);
    else this.on.wake();
  }

  // Not scrollIntoView: on a small screen that would move the page under the reader's eyes.
  scrollDown() {
    this.log.parentElement.scrollTop = this.log.parentElement.scrollHeight;
  }

  dropPending() {
    for (const { item } of this.pending.values()) item.remove();
    this.pending.clear();
  }
}

function startGuest(config) {
  const keys = { "X-PinTalk-Access-Key": config.accessKey, "X-PinTalk-Secret-Key": config.secretKey };
  let room = null;
  let opening = false;
  let attempt = randomId();

  const talk = new Talk("guest", {
    // Writing into a closed room, or into none, opens one.
    wake: () => enter(),
    ended: (code, reason) => {
      if (code === 4004) forget("The host deleted this conversation. Write to begin another.");
      else if (code === 1000) talk.hint("The host closed this conversation. Write to resume it.");
      else talk.hint(`refused: ${code} ${reason}`);
    },
  });

  async function enter() {
    if (opening) return;
    opening = true;
    try {
      // The key makes a second try, after an answer that got lost, find the room of the first.
      room ??= await call("POST", "/api/chat/", { ...keys, "Idempotency-Key": attempt });
      localStorage.setItem(ROOM_KEY, JSON.stringify({ name: room.name, guest: room.guest, accessKey: config.accessKey }));
      byId("guest-name").textContent = `${room.guest} · room ${room.name}`;
      talk.enter(`/ws/chat/${room.name}/`);
    } catch (error) {
      talk.dropPending();
      talk.hint(`no room: ${error.message}`);
    } finally {
      opening = false;
    }
  }

  function forget(hint) {
    room = null;
    attempt = randomId();
    localStorage.removeItem(ROOM_KEY);
    talk.clear();
    byId("guest-name").textContent = "not yet in a conversation";
    talk.hint(hint);
  }

  const presence = (online, text = online ? "host online" : "host offline") => showPresence("guest", online, text);
  new Line(`/ws/chat/${config.hostUuid}/status/`, {
    // Nothing is sent while the host is away: until told otherwise he is.
    opened: () => presence(false),
    frame: (frame) => presence((frame.status ?? frame.message) === "online"),
    waiting: () => presence(false, "reconnecting"),
    ended: (code) => presence(false, code === 4009 ? "presence not shown" : `refused: ${code}`),
  });

  byId("guest-new").onclick = () => forget("A new visitor: the first message opens a room.");
  const saved = JSON.parse(localStorage.getItem(ROOM_KEY) ?? "null");
  if (saved?.accessKey === config.accessKey) {
    room = saved;
    enter();
  }
}

async function startHost(config) {
  let user = null;
  let rooms = [];
  let chosen = null; // the name of the room on the desk
  let parked = false; // it is closed: enter when it opens
  let status = null;
  let soon = () => {}; // look at the list of rooms before its time

  async function login() {
    user = await call("POST", "/api/auth/login/", {}, { email: config.email, password: config.password });
    byId("host-name").textContent = `${user.profileName} · ${user.email}`;
  }
  // The login ended: a new one, not in a hurry.
  const again = (then) => sleep(1000).then(login).then(then, (error) => talk.happened(`not logged in: ${error.message}`));
  async function api(method, path, body) {
    const once = () => call(method, path, { Authorization: `Bearer ${user.accessToken}` }, body);
    return once().catch((error) => (error.status === 401 ? login().then(once) : Promise.reject(error)));
  }

  const talk = new Talk("host", {
    frame: () => soon(),
    ended: (code, reason) => {
      soon();
      if (code === 4001) again(enter);
      else if (code === 1000 || code === 4009) park();
      else if (code === 4004) leave("This room was deleted.");
      else talk.hint(`refused: ${code} ${reason}`);
    },
  });

  function enter() {
    parked = false;
    if (chosen) talk.enter(`/ws/chat/${chosen}/`, () => user.accessToken);
  }

  // A closed room has no socket; what was said is still there to read.
  function park() {
    parked = true;
    talk.hint("This room is closed. Restore it to go on.");
  }

  function leave(hint) {
    chosen = null;
    parked = false;
    talk.clear();
    talk.hint(hint);
    draw();
  }

  async function choose(room) {
    chosen = room.name;
    parked = false;
    talk.clear();
    talk.hint("");
    draw();
    if (!room.isClosed) return enter();
    park();
    const page = await api("GET", `/api/chat/chatrooms/${room.id}/chat-messages/?limit=${PAGE}`);
    if (chosen === room.name) page.results.forEach((it) => talk.add({ ...it, is_host: it.isHost, id: it.messageId }));
  }

  let drawn = "";
  function draw() {
    const picture = JSON.stringify([rooms, chosen]);
    if (picture === drawn) return; // a button that somebody is about to press stays
    drawn = picture;
    byId("host-rooms").replaceChildren(...rooms.map((room) => {
      const [item, button, dot, unread] = [make("li"), make("button"), make("span"), make("i", room.unread)];
      button.type = "button";
      button.setAttribute("aria-current", String(room.name === chosen));
      button.classList.toggle("closed", room.isClosed);
      button.onclick = () => choose(room).catch((error) => talk.hint(error.message));
      dot.className = room.guestOnline ? "dot on" : "dot";
      unread.hidden = !room.unread;
      const latest = room.isClosed ? "closed" : room.latestMsg ?? "nothing said yet";
      button.append(dot, make("b", room.guest), unread, make("small", latest));
      item.append(button);
      return item;
    }));
    const room = rooms.find((it) => it.name === chosen);
    byId("host-room").textContent = room?.guest ?? "no room chosen";
    byId("host-close").hidden = !room || room.isClosed;
    byId("host-restore").hidden = !room?.isClosed;
    byId("host-delete").hidden = !room;
  }

  async function refresh() {
    rooms = (await api("GET", "/api/chat/chatrooms/")).results;
    const now = rooms.find((it) => it.name === chosen);
    // The guest came back, or somebody restored it.
    if (parked && now && !now.isClosed) enter();
    draw();
  }

  function act(button, said, action) {
    byId(button).onclick = async () => {
      const room = rooms.find((it) => it.name === chosen);
      const begun = performance.now();
      try {
        if (room && (await action(room)) !== false) talk.happened(`${said} in ${(performance.now() - begun).toFixed(1)} ms`);
      } catch (error) {
        talk.happened(error.message);
      }
      soon();
    };
  }
  const path = (room) => `/api/chat/chatrooms/${room.id}/`;
  act("host-close", "closed", (room) => api("PATCH", path(room), { isClosed: true }));
  act("host-restore", "restored", (room) => api("PATCH", `${path(room)}restore/`));
  act("host-delete", "deleted", async (room) => {
    if (!confirm(`Delete the conversation with ${room.guest}?`)) return false;
    await api("DELETE", path(room));
    leave("Choose a room from the list.");
  });

  function presence(online, text = online ? "online" : "offline") {
    showPresence("host", online, text);
    byId("host-online").setAttribute("aria-pressed", String(Boolean(status)));
  }
  function goOnline() {
    status = new Line(`/ws/chat/${config.hostUuid}/status/`, {
      query: () => ({ token: user.accessToken }),
      opened: () => presence(true),
      frame: (frame) => {
        if (frame.message === "chat_message") soon();
      },
      waiting: () => presence(false, "reconnecting"),
      ended: (code) => {
        status = null;
        presence(false, code === 4009 ? "presence switched off" : `refused: ${code}`);
        if (code === 4001) again(goOnline);
      },
    });
  }
  byId("host-online").onclick = () => {
    if (!status) return goOnline();
    status.hangUp();
    status = null;
    presence(false);
  };

  await login();
  goOnline();
  for (;;) {
    // Made first, so that what happens during the call makes one more.
    const nudged = new Promise((resolve) => (soon = resolve));
    if (!document.hidden) await refresh().catch((error) => talk.happened(`rooms: ${error.message}`));
    await sleep(200);
    await Promise.race([sleep(POLL_MS), nudged]);
  }
}

async function main() {
  const config = await call("GET", "/demo/config.json");
  startGuest(config);
  await startHost(config);
}

main().catch((error) => {
  byId("host-name").textContent = error.message;
  byId("guest-name").textContent = error.message;
});
