// The panel, which contains the conversation and the input. Its script is loaded when it is first needed.
import { fits } from "../shared/conversation";
import { h, icon } from "../shared/dom";
import { allMessages, Rows } from "../shared/rows";
import { later, setWireOffset } from "../shared/time";
import type { Chat } from "./chat";
import type { GuestConversation } from "./guest";
import style from "./panel.css";
import { PANEL_WORDS, type PanelWords } from "./panel-words";
import type { Client } from "./service";
import { playSound } from "./sound";
import { adoptStyle } from "./style";
import { loading } from "./loading";
import { Viewport } from "./viewport";

export { playSound };

export interface PanelModule {
  Panel: typeof Panel;
  playSound: typeof playSound;
}

const TYPING_SHOWN_MS = 4000;
const AT_END_PX = 60; // distance from the end within which the list counts as scrolled to the end
const OLDER_PX = 200; // distance from the beginning at which older messages are requested
const DRAFT_KEY = "pintalk:draft";

const DOWN = "M6 9l6 6 6-6";
const BELL = "M18 8a6 6 0 0 0-12 0c0 7-3 9-3 9h18s-3-2-3-9M13.7 21a2 2 0 0 1-3.4 0";
const BELL_OFF = `${BELL}M2 2l20 20`;
const PLANE = "M12 20V4M5 11l7-7 7 7";

setWireOffset(loading.wireOffset);

export class Panel {
  readonly element: HTMLElement;
  readonly #words: PanelWords;
  readonly #rows: Rows;
  readonly #viewport: Viewport;
  readonly #clock: number;
  #typedAt = 0;
  /** Whether the end of the list is visible. If it is, it remains visible when the panel is resized. */
  #isAtEnd = true;

  readonly #presence = h("p", { class: "presence" });
  readonly #list = h("ol");
  readonly #hint: HTMLElement;
  readonly #newer: HTMLButtonElement;
  readonly #pane: HTMLElement;
  readonly #notice = h("p", { class: "notice", role: "status" });
  readonly #text: HTMLTextAreaElement;
  readonly #submit: HTMLButtonElement;
  readonly #sound: HTMLButtonElement;
  readonly #leave: HTMLButtonElement;

  constructor(
    private readonly chat: Chat,
    private readonly conversation: GuestConversation,
    private readonly client: Client,
    lang: string,
  ) {
    const words = (this.#words = PANEL_WORDS[lang] ?? PANEL_WORDS.en!);
    this.#sound = h("button", { class: "tool", type: "button", onclick: () => this.#toggleSound() });
    this.#leave = h("button", { class: "tool", type: "button", "aria-label": words.close, onclick: () => chat.toggle(false) }, icon(DOWN));
    this.#hint = h("p", { class: "hint", text: words.hint });
    this.#newer = h("button", { class: "newer", type: "button", hidden: true, text: words.latest, onclick: () => this.#scrollToEnd() });
    this.#pane = h("div", { class: "talk", role: "log", tabindex: 0, "aria-label": words.messages, onscroll: () => this.#scrolled() }, this.#list, this.#newer);
    this.#text = h("textarea", { rows: 1, placeholder: words.write, "aria-label": words.write, dir: "auto", enterkeyhint: "send" });
    this.#submit = h("button", { class: "send", "aria-label": words.send }, icon(PLANE));
    this.element = this.#build();
    this.#rows = new Rows(this.#list, { words, lang, name: client.profileName, retry: () => conversation.retry() });
    this.#viewport = new Viewport(this.element, () => this.#isAtEnd && this.#scrollToEnd());
    this.#text.value = chat.storage.get(DRAFT_KEY) ?? "";
    // Unsent messages are updated periodically, because their state depends on the time.
    this.#clock = setInterval(() => conversation.outbox.list().length && this.show(), 1000);
    this.#showSound();
  }

  #build(): HTMLElement {
    const { client } = this;
    const words = this.#words;
    const name = client.profileName;
    const picture = client.profileImage ? h("img", { src: client.profileImage, alt: "" }) : [...name][0];
    const form = h("form", { onsubmit: (event: Event) => this.#send(event) }, this.#text, this.#submit);
    this.#text.oninput = () => this.#edited();
    this.#text.onkeydown = (event) => {
      // Enter also completes a Hangul syllable. Safari reports that key press with `isComposing` false and `keyCode` 229.
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) this.#send(event);
    };
    const onkeydown = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !event.isComposing) this.chat.toggle(false);
    };
    return h(
      "section",
      { class: "panel", role: "dialog", "aria-label": `${words.chat} · ${name}`, hidden: true, onkeydown },
      h(
        "header",
        {},
        h("div", { class: "avatar", "aria-hidden": "true" }, picture),
        h("div", { class: "who" }, h("p", { class: "name", dir: "auto", text: name }), this.#presence),
        this.#sound,
        this.#leave,
      ),
      this.#pane,
      this.#notice,
      form,
    );
  }

  close(): void {
    clearInterval(this.#clock);
    this.#viewport.close();
  }

  /** Called when the panel may have been moved to another element. A move resets the scroll position. */
  moved(): void {
    const root = this.element.getRootNode();
    if (root instanceof ShadowRoot && !styled.has(root)) {
      styled.add(root);
      adoptStyle(root, style);
    }
    if (this.#isAtEnd) this.#scrollToEnd();
  }

  toggle(isOpen: boolean, isRequested: boolean): void {
    this.moved();
    this.element.hidden = !isOpen;
    if (!isOpen) return;
    this.#viewport.update();
    this.show();
    this.#fitHeight();
    this.#scrollToEnd();
    // On touch devices, the input does not receive the focus, because the on-screen keyboard would cover half of the screen.
    if (isRequested) (window.matchMedia?.("(any-pointer: coarse)")?.matches ? this.#leave : this.#text).focus({ preventScroll: true });
  }

  show(): void {
    const { conversation } = this;
    const pane = this.#pane;
    const list = this.#list;
    if (this.chat.isShown && !this.element.hidden) {
      const below = pane.scrollHeight - pane.scrollTop;
      const first = list.firstChild;
      const isAtEnd = below - pane.clientHeight < AT_END_PX;
      if (this.#hint.parentNode) list.removeChild(this.#hint);
      this.#rows.show(conversation, allMessages(conversation));
      if (!list.firstChild) list.appendChild(this.#hint);
      if (isAtEnd) this.#scrollToEnd();
      else if (list.firstChild !== first) pane.scrollTop = pane.scrollHeight - below;
      if (!document.hidden && isAtEnd) conversation.markSeen();
      if (isAtEnd && pane.scrollHeight <= pane.clientHeight) conversation.loadOlder();
    }
    this.#newer.hidden = !conversation.unread;
    this.#showNotice();
  }

  #showNotice(): void {
    const { conversation } = this;
    const words = this.#words;
    const text = this.#text.value.trim();
    const isTooLong = !fits(text);
    const hasOlder = (conversation.messages[0]?.seq ?? 0) > 1;
    const ended = conversation.isClosed ? words.closed + (hasOlder ? words.before : "") : conversation.state === "deleted" ? words.deleted : "";
    const loud = isTooLong ? words.tooLong : ended;
    const isTyping = this.#typedAt > Date.now() - TYPING_SHOWN_MS;
    const quiet = conversation.state === "waiting" ? words.waiting : isTyping ? `${this.client.profileName} ${words.typing}` : "";
    const shown = loud || quiet;
    this.#notice.className = loud ? "notice loud" : "notice";
    if (this.#notice.textContent !== shown) this.#notice.textContent = shown;
    this.#submit.disabled = !text || isTooLong;
  }

  showTyping(): void {
    this.#typedAt = Date.now();
    this.#showNotice();
    later(TYPING_SHOWN_MS, () => this.#showNotice());
  }

  received(): void {
    this.#typedAt = 0;
  }

  showPresence(online: boolean | null): void {
    const { client } = this;
    const words = this.#words;
    if (online === null) this.#presence.textContent = client.serviceName;
    else this.#presence.replaceChildren(h("span", { class: online ? "dot on" : "dot" }), online ? words.online : words.away);
  }

  /** Clears the input after the conversation was ended in this browser. */
  reset(): void {
    this.#text.value = "";
    this.#edited();
  }

  #edited(): void {
    this.chat.storage.set(DRAFT_KEY, this.#text.value);
    this.#fitHeight();
    this.#showNotice();
    if (this.#text.value) this.conversation.sendTyping();
  }

  #fitHeight(): void {
    const { style } = this.#text;
    style.height = "auto";
    style.height = `${this.#text.scrollHeight}px`;
    style.overflowY = this.#text.scrollHeight > this.#text.clientHeight ? "auto" : "hidden";
  }

  #send(event: Event): void {
    event.preventDefault();
    if (this.#submit.disabled) return;
    const text = this.#text.value.trim();
    this.#text.value = "";
    this.#edited();
    this.conversation.send(text);
    this.#scrollToEnd();
    this.#text.focus({ preventScroll: true });
  }

  #scrollToEnd(): void {
    this.#pane.scrollTop = this.#pane.scrollHeight;
    this.#isAtEnd = true;
    if (this.chat.isShown && !document.hidden) this.conversation.markSeen();
  }

  #scrolled(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.#pane;
    this.#isAtEnd = scrollHeight - scrollTop - clientHeight < AT_END_PX;
    if (scrollTop < OLDER_PX) this.conversation.loadOlder();
    if (this.conversation.unread && this.#isAtEnd) this.chat.changed();
  }

  #toggleSound(): void {
    this.chat.hasSound = !this.chat.hasSound;
    if (this.chat.hasSound) playSound();
    this.#showSound();
  }

  #showSound(): void {
    const isOn = this.chat.hasSound;
    this.#sound.replaceChildren(icon(isOn ? BELL : BELL_OFF));
    this.#sound.setAttribute("aria-label", isOn ? this.#words.soundOff : this.#words.soundOn);
  }
}

/** Shadow roots that contain the style of the panel. */
const styled = new WeakSet<ShadowRoot>();
