// What a guest sees: the launcher, and the panel with the conversation.
import { fits } from "../shared/conversation.js";
import { h, icon } from "../shared/dom.js";
import { allOf, Rows } from "../shared/rows.js";
import { tab } from "../shared/store.js";
import { later } from "../shared/time.js";

const TYPING_SHOWN_MS = 4000;
const NEAR_PX = 60; // as good as at the end

const BUBBLE = "M21 11.5a8.4 8.4 0 0 1-12.2 7.5L3 21l2-5.8A8.4 8.4 0 1 1 21 11.5z";
const DOWN = "M6 9l6 6 6-6";
const BELL = "M18 8a6 6 0 0 0-12 0c0 7-3 9-3 9h18s-3-2-3-9M13.7 21a2 2 0 0 1-3.4 0";
const BELL_OFF = `${BELL}M2 2l20 20`;
const PLANE = "M12 20V4M5 11l7-7 7 7";

// What stands in the page's title, and what the page itself has it say; one for all widgets of a page.
const heading = {};

export class Panel {
  constructor(root, client, talk, { words, lang, store, toggled }) {
    Object.assign(this, { client, talk, words, store, toggled, isOpen: false });
    const { profileName, profileImage } = client;
    this.unread = h("span", { class: "badge", hidden: true });
    this.light = h("span", { class: "dot" });
    this.launcher = h("button", { class: "launcher", type: "button", onclick: () => this.toggle() }, icon(BUBBLE), this.unread, this.light);
    this.presence = h("p", { class: "presence" });
    this.sound = h("button", { class: "tool", type: "button", onclick: () => this.turnSound() });
    this.leave = h("button", { class: "tool", type: "button", "aria-label": words.close, onclick: () => this.toggle(false) }, icon(DOWN));
    this.list = h("ol");
    this.hint = h("p", { class: "hint", text: words.hint });
    this.newer = h("button", { class: "newer", type: "button", hidden: true, text: words.latest, onclick: () => this.toEnd() });
    this.pane = h("div", { class: "talk", role: "log", tabindex: 0, "aria-label": words.messages, onscroll: () => this.scrolled() });
    this.pane.append(this.list, this.newer);
    this.notice = h("p", { class: "notice", role: "status" });
    this.text = h("textarea", { rows: 1, placeholder: words.write, "aria-label": words.write, dir: "auto", enterkeyhint: "send" });
    this.submit = h("button", { class: "send", "aria-label": words.send }, icon(PLANE));
    this.form = h("form", {}, this.text, this.submit);
    this.panel = h(
      "section",
      { class: "panel", role: "dialog", "aria-label": `${words.chat} · ${profileName}`, hidden: true },
      h(
        "header",
        {},
        h("div", { class: "avatar", "aria-hidden": "true" }, profileImage ? h("img", { src: profileImage, alt: "" }) : [...profileName][0]),
        h("div", { class: "who" }, h("p", { class: "name", dir: "auto", text: profileName }), this.presence),
        this.sound,
        this.leave,
      ),
      this.pane,
      this.notice,
      this.form,
    );
    this.rows = new Rows(this.list, { words, lang, name: profileName, retry: () => talk.retry() });
    this.text.value = tab.get("draft");
    this.text.oninput = () => this.wrote();
    this.text.onkeydown = (event) => {
      // Enter also ends a syllable of Hangul, which is no message yet.
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) this.say(event);
    };
    this.form.onsubmit = (event) => this.say(event);
    this.panel.onkeydown = (event) => {
      if (event.key === "Escape") this.toggle(false);
    };
    // Once a second: what waits for long says so.
    this.clock = setInterval(() => talk.store.list().length && this.show(), 1000);
    this.looked = () => document.hidden || (this.isOpen && talk.wake(), this.show());
    document.addEventListener("visibilitychange", this.looked);
    root.append(this.panel, this.launcher);
    this.showPresence(null);
    this.showSound();
    this.toggle(tab.get("open") === "1", true);
  }

  close() {
    clearInterval(this.clock);
    document.removeEventListener("visibilitychange", this.looked);
    this.showTitle(0);
  }

  toggle(open = !this.isOpen, isFirst) {
    this.isOpen = open;
    this.panel.hidden = !open;
    this.launcher.setAttribute("aria-expanded", open);
    this.launcher.firstChild.replaceWith(icon(open ? DOWN : BUBBLE));
    tab.set("open", open ? "1" : "");
    this.toggled(open);
    if (open) this.talk.wake();
    this.show();
    if (open) {
      this.grow();
      this.toEnd();
    }
    if (isFirst) return;
    // A keyboard that covers half a phone is not asked for.
    if (open) (matchMedia("(pointer: coarse)").matches ? this.leave : this.text).focus();
    else this.launcher.focus();
  }

  /** Shows how things are. */
  show() {
    const { talk, words, pane } = this;
    if (this.isOpen) {
      const below = pane.scrollHeight - pane.scrollTop;
      const first = this.list.firstChild;
      const isAtEnd = below - pane.clientHeight < NEAR_PX;
      this.hint.remove();
      this.rows.show(talk, allOf(talk));
      if (!this.list.firstChild) this.list.append(this.hint);
      if (isAtEnd) this.toEnd();
      else if (this.list.firstChild !== first) pane.scrollTop = pane.scrollHeight - below;
      if (!document.hidden && isAtEnd) talk.look();
      if (isAtEnd && pane.scrollHeight <= pane.clientHeight) talk.older();
    }
    const count = talk.unread;
    this.unread.hidden = !count;
    this.unread.textContent = count > 99 ? "99+" : count;
    this.launcher.setAttribute("aria-label", this.isOpen ? words.close : count ? `${words.open}, ${words.unread(count)}` : words.open);
    this.newer.hidden = !count;
    this.showTitle(count);
    this.showNotice();
  }

  showTitle(count) {
    if (document.title !== heading.shown) heading.own = document.title;
    const wanted = count && (document.hidden || !this.isOpen) ? `(${count}) ${heading.own}` : heading.own;
    if (document.title !== wanted) document.title = wanted;
    heading.shown = document.title;
  }

  showNotice() {
    const { words, talk } = this;
    const written = this.text.value.trim();
    const ended = talk.isClosed ? words.closed + (talk.messages[0]?.seq > 1 ? words.before : "") : talk.state === "deleted" && words.deleted;
    const loud = fits(written) ? ended : words.tooLong;
    const typing = this.typedAt > Date.now() - TYPING_SHOWN_MS && `${this.client.profileName} ${words.typing}`;
    const text = loud || (talk.state === "waiting" ? words.waiting : typing || "");
    this.notice.classList.toggle("loud", Boolean(loud));
    if (this.notice.textContent !== text) this.notice.textContent = text;
    this.submit.disabled = !written || loud === words.tooLong;
  }

  showTyping() {
    this.typedAt = Date.now();
    this.showNotice();
    later(TYPING_SHOWN_MS, () => this.showNotice());
  }

  /** `null`: the host does not show whether he is there. */
  showPresence(online) {
    this.light.classList.toggle("on", Boolean(online));
    this.light.hidden = online === null;
    const dot = h("span", { class: online ? "dot on" : "dot" });
    this.presence.replaceChildren(...(online === null ? [this.client.serviceName] : [dot, online ? this.words.online : this.words.away]));
  }

  wrote() {
    tab.set("draft", this.text.value);
    this.grow();
    this.showNotice();
    if (this.text.value) this.talk.typing();
  }

  grow() {
    const { style } = this.text;
    style.height = "auto";
    style.height = `${this.text.scrollHeight}px`;
    style.overflowY = this.text.scrollHeight > this.text.clientHeight ? "auto" : "hidden";
  }

  say(event) {
    event.preventDefault();
    if (this.submit.disabled) return;
    const text = this.text.value.trim();
    this.text.value = "";
    this.wrote();
    this.talk.say(text);
    this.toEnd();
    this.text.focus();
  }

  toEnd() {
    this.pane.scrollTop = this.pane.scrollHeight;
    if (this.isOpen && !document.hidden) this.talk.look();
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.pane;
    if (scrollTop < 200) this.talk.older();
    if (this.talk.unread && scrollHeight - scrollTop - clientHeight < NEAR_PX) this.show();
  }

  news() {
    this.typedAt = 0;
    if (this.store.get("sound") && (document.hidden || !this.isOpen)) this.ring();
  }

  turnSound() {
    this.store.set("sound", !this.store.get("sound"));
    this.showSound();
    if (this.store.get("sound")) this.ring();
  }

  showSound() {
    const on = Boolean(this.store.get("sound"));
    this.sound.replaceChildren(icon(on ? BELL : BELL_OFF));
    this.sound.setAttribute("aria-label", on ? this.words.soundOff : this.words.soundOn);
  }

  ring() {
    const audio = (this.audio ??= new AudioContext());
    const gain = audio.createGain();
    gain.connect(audio.destination);
    gain.gain.setValueAtTime(0.08, audio.currentTime);
    gain.gain.exponentialRampToValueAtTime(0.0001, audio.currentTime + 0.4);
    const tone = audio.createOscillator();
    tone.frequency.setValueAtTime(660, audio.currentTime);
    tone.frequency.setValueAtTime(880, audio.currentTime + 0.1);
    tone.connect(gain);
    tone.start();
    tone.stop(audio.currentTime + 0.4);
  }
}
