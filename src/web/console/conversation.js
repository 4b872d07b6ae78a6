// The middle of the desk: one conversation, and what can be done with it.
import { fits } from "../shared/conversation.js";
import { h, icon } from "../shared/dom.js";
import { ICONS } from "./icons.js";
import { ask, attempt, tool } from "./parts.js";
import { HostTalk } from "./talk.js";
import { Thread } from "./thread.js";
import { lang, words } from "./words.js";

const IDLE_MS = 300_000; // after this without a key or a pointer the host counts as away
const IDLE_CHECK_MS = 10_000;
const MAX_TEXT_PX = 160; // as the style has it
const TYPING_SHOWN_MS = 4000;

const USES = ["pointermove", "pointerdown", "keydown", "wheel", "touchstart"];

export class ConversationView {
  /** `on.left()` when it is to go. */
  constructor(api, rooms, room, on) {
    Object.assign(this, { api, rooms, room, on, typedAt: 0 });
    const changed = () => (this.due ??= Promise.resolve().then(() => ((this.due = null), this.show())));
    this.talk = new HostTalk(api, room, {
      changed,
      happened: (what) => this.happened(what),
      news: (news) => this.heard(news),
      typing: () => this.guestTypes(),
    });
    this.thread = new Thread(this.talk, { words, lang, name: room.guest, retry: () => this.talk.retry() });
    this.light = h("i", { class: "dot" });
    this.presence = h("span", { class: "faint" });
    this.tools = h("div", { class: "tools" });
    this.notice = h("p", { class: "notice", role: "status" });
    this.text = h("textarea", { rows: 1, dir: "auto", placeholder: words.write, "aria-label": words.write, enterkeyhint: "send" });
    this.submit = h("button", { class: "send", "aria-label": words.send }, icon(ICONS.plane));
    this.form = h("form", { class: "writing" }, this.text, this.submit);
    this.element = h(
      "section",
      { class: "conversation", "aria-label": room.guest },
      h(
        "header",
        {},
        tool("back", words.back, () => on.left(), { class: "tool narrow" }),
        h("div", { class: "who" }, h("h2", { dir: "auto", text: room.guest }), h("p", {}, this.light, this.presence)),
        this.tools,
      ),
      this.thread.element,
      this.notice,
      this.form,
    );
    this.draftKey = `pintalk-draft:${room.name}`;
    this.text.value = sessionStorage.getItem(this.draftKey) ?? "";
    this.text.oninput = () => this.wrote();
    this.text.onkeydown = (event) => {
      // Enter also ends a syllable of Hangul, which is no message yet.
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) this.say(event);
    };
    this.form.onsubmit = (event) => this.say(event);
    this.looked = () => {
      this.used();
      document.hidden || this.show();
    };
    document.addEventListener("visibilitychange", this.looked);
    this.used = () => {
      this.usedAt = Date.now();
      this.showAway();
    };
    for (const event of USES) document.addEventListener(event, this.used, { passive: true });
    this.used();
    this.idleness = setInterval(() => this.showAway(), IDLE_CHECK_MS);
    this.clock = setInterval(() => this.talk.outbox.list().length && this.show(), 1000);
  }

  /** Once it stands on the page. */
  entered() {
    this.show();
    this.grow();
    if (!matchMedia("(pointer: coarse)").matches) this.text.focus();
  }

  /** What arrives while the page is hidden, or the host is idle, is not read. */
  showAway() {
    this.talk.setAway(document.hidden || Date.now() - this.usedAt >= IDLE_MS);
  }

  close() {
    clearInterval(this.clock);
    clearInterval(this.idleness);
    for (const event of USES) document.removeEventListener(event, this.used);
    document.removeEventListener("visibilitychange", this.looked);
    this.talk.close();
    this.thread.close();
  }

  show() {
    const { talk, room } = this;
    const known = this.rooms.all.get(room.name);
    if (known) {
      // Somebody restored it elsewhere, or the guest came back.
      if (room.isClosed && !known.isClosed) talk.unpark();
      Object.assign(room, known);
    } else if (talk.state === "closed") talk.state = "deleted"; // elsewhere, and a closed room has no socket that says so
    this.thread.show();
    this.light.className = room.guestOnline ? "dot on" : "dot";
    this.presence.textContent = room.guestOnline ? words.guestHere : words.guestAway;
    this.form.hidden = talk.state === "closed" || talk.state === "deleted";
    this.showTools();
    this.showNotice();
  }

  showTools() {
    const { room, talk } = this;
    const isClosed = talk.state === "closed" || room.isClosed;
    const look = `${talk.state} ${isClosed} ${room.isFixed}`;
    if (look === this.look) return;
    this.look = look;
    if (talk.state === "deleted") return this.tools.replaceChildren();
    const pin = room.isFixed ? words.unpin : words.pin;
    this.tools.replaceChildren(
      ...(isClosed
        ? [tool("restore", words.restoreRoom, attempt(() => this.restore()))]
        : [
            tool("pin", pin, attempt(() => this.change({ isFixed: !room.isFixed })), { "aria-pressed": `${room.isFixed}` }),
            tool("close", words.close, attempt(() => this.end())),
          ]),
      tool("download", words.download, attempt(() => this.download())),
      tool("trash", words.leave, attempt(() => this.leave())),
    );
  }

  showNotice() {
    const { talk } = this;
    const written = this.text.value.trim();
    const isTooLong = !fits(written);
    const states = { closed: words.isClosed, deleted: words.isDeleted, waiting: words.reconnecting };
    const types = this.typedAt > Date.now() - TYPING_SHOWN_MS ? `${this.room.guest} ${words.typing}` : "";
    const text = isTooLong ? words.tooLong : (states[talk.state] ?? types);
    this.notice.classList.toggle("loud", this.form.hidden);
    if (this.notice.textContent !== text) this.notice.textContent = text;
    this.submit.disabled = !written || isTooLong;
  }

  happened(what) {
    if (what.type === "ended" && what.code === 1000) this.rooms.put({ ...this.room, isClosed: true, isFixed: false });
    if (what.type === "ended" && what.code === 4004) this.rooms.remove(this.room.name);
    if (what.type === "acknowledged") this.rooms.answered(this.room.name);
    // Whoever has come in has read all.
    if (what.type === "connected") this.rooms.tell();
    dispatchEvent(new CustomEvent("pintalk", { detail: { ...what, room: this.room.name } }));
  }

  heard(news) {
    this.typedAt = 0;
    this.guestIsHere();
    this.rooms.heard(news.length);
    this.happened({ type: "received", seq: news.at(-1).seq });
  }

  guestIsHere() {
    if (this.room.guestOnline) return;
    const known = this.rooms.all.get(this.room.name);
    if (known) this.rooms.put({ ...known, guestOnline: true });
  }

  guestTypes() {
    this.typedAt = Date.now();
    this.guestIsHere();
    this.showNotice();
    setTimeout(() => this.showNotice(), TYPING_SHOWN_MS);
  }

  wrote() {
    sessionStorage.setItem(this.draftKey, this.text.value);
    this.grow();
    this.showNotice();
    if (this.text.value) this.talk.typing();
  }

  grow() {
    const { style } = this.text;
    style.height = "auto";
    style.height = `${this.text.scrollHeight}px`;
    style.overflowY = this.text.scrollHeight > MAX_TEXT_PX ? "auto" : "hidden";
  }

  say(event) {
    event.preventDefault();
    const text = this.text.value.trim();
    if (!text || !fits(text)) return;
    this.text.value = "";
    this.wrote();
    this.talk.say(text);
    this.thread.toEnd();
  }

  get path() {
    return `/api/chat/chatrooms/${this.room.id}/`;
  }

  async change(patch) {
    this.rooms.put(await this.api.call("PATCH", this.path, patch));
    this.rooms.tell();
    this.show();
  }

  async end() {
    if (await ask(words.closeAsk(this.room.guest), words.closeWhy, words.close)) await this.change({ isClosed: true });
  }

  async restore() {
    this.rooms.put(await this.api.call("PATCH", `${this.path}restore/`));
    this.rooms.tell();
    this.show();
  }

  async leave() {
    if (!(await ask(words.leaveAsk(this.room.guest), words.leaveWhy, words.leave))) return;
    await this.api.call("DELETE", this.path);
    this.rooms.remove(this.room.name);
    this.rooms.tell();
    this.on.left();
  }

  async download() {
    const answer = await this.api.raw("GET", `${this.path}download/`);
    const named = /filename\*=UTF-8''([^;]+)/.exec(answer.headers.get("Content-Disposition") ?? "");
    const url = URL.createObjectURL(await answer.blob());
    h("a", { href: url, download: named ? decodeURIComponent(named[1]) : `${this.room.guest}.txt` }).click();
    URL.revokeObjectURL(url);
  }
}
