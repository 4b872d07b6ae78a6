// Pane of a conversation, with the actions on it.
import { fits, type ConversationEvent, type Message } from "../shared/conversation";
import { h, icon } from "../shared/dom";
import { later } from "../shared/time";
import { session } from "../shared/storage";
import { preventPageScroll } from "../shared/swipe";
import type { Api } from "./api";
import { ask } from "./dialog";
import { HostConversation } from "./host-conversation";
import { ICONS } from "./icons";
import { noContent, roomFrom, type Room } from "./model";
import { attempt, tool, type View } from "./parts";
import type { Rooms } from "./rooms";
import { Thread } from "./thread";
import { lang, words } from "./words";

const IDLE_MS = 300_000; // time without keyboard or pointer input after which the host is away
const IDLE_CHECK_MS = 10_000;
const OUTBOX_CHECK_MS = 1000;
const MAX_TEXT_PX = 160; // same as the maximum height in the style sheet
const TYPING_SHOWN_MS = 4000;
const ACTIVITIES = ["pointermove", "pointerdown", "keydown", "wheel", "touchstart"];

export class ConversationView implements View {
  readonly element: HTMLElement;
  readonly #conversation: HostConversation;
  readonly #thread: Thread;
  readonly #light = h("i", { class: "dot" });
  readonly #presence = h("span", { class: "faint" });
  readonly #tools = h("div", { class: "tools" });
  readonly #notice = h("p", { class: "notice", role: "status" });
  readonly #text = h("textarea", { rows: 1, dir: "auto", placeholder: words.write, "aria-label": words.write, enterkeyhint: "send" });
  readonly #submit = h("button", { class: "send", "aria-label": words.send }, icon(ICONS.plane));
  readonly #form = h("form", { class: "writing" }, this.#text, this.#submit);
  readonly #draftKey: string;
  readonly #intervals: number[];
  #toolsKey = "";
  #typedAt = 0;
  #activeAt = 0;
  #isShowDue = false;
  #isClosed = false;

  /** `room` must be a copy. `left` is called when the pane should be closed. */
  constructor(
    private readonly api: Api,
    private readonly rooms: Rooms,
    private room: Room,
    private readonly left: () => void,
  ) {
    this.#conversation = new HostConversation(api, room, {
      changed: () => this.#showSoon(),
      event: (detail) => this.#handle(detail),
      received: (messages) => this.#received(messages),
      typing: () => this.#guestTyping(),
    });
    this.#thread = new Thread(this.#conversation, { words, lang, name: room.guest, retry: () => this.#conversation.retry() });
    const header = h(
      "header",
      {},
      tool("back", words.back, left, { class: "tool narrow" }),
      h("div", { class: "who" }, h("h2", { dir: "auto", text: room.guest }), h("p", {}, this.#light, this.#presence)),
      this.#tools,
    );
    this.element = h(
      "section",
      { class: "conversation", "aria-label": room.guest },
      header,
      this.#thread.element,
      this.#notice,
      this.#form,
    );
    this.#draftKey = `pintalk-draft:${room.name}`;
    this.#text.value = session.get(this.#draftKey) ?? "";
    this.#listenToInput();
    preventPageScroll(header);
    preventPageScroll(this.#form);
    document.addEventListener("visibilitychange", this.#visibilityChanged);
    for (const event of ACTIVITIES) document.addEventListener(event, this.#active, { passive: true });
    this.#active();
    this.#intervals = [
      window.setInterval(() => this.#updateAway(), IDLE_CHECK_MS),
      window.setInterval(() => this.#conversation.outbox.list().length && this.show(), OUTBOX_CHECK_MS),
    ];
  }

  #listenToInput(): void {
    this.#text.oninput = () => this.#changed();
    this.#text.onkeydown = (event) => {
      // Enter also completes a Hangul syllable. Safari reports that key press with `isComposing` false and `keyCode` 229.
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) this.#send(event);
    };
    this.#form.onsubmit = (event) => this.#send(event);
  }

  readonly #visibilityChanged = (): void => {
    this.#active();
    if (!document.hidden) this.show();
  };

  readonly #active = (): void => {
    this.#activeAt = Date.now();
    this.#updateAway();
  };

  entered(): void {
    this.show();
    this.#fitHeight();
    if (!matchMedia("(pointer: coarse)").matches) this.#text.focus();
  }

  recovered(): void {
    this.#conversation.recovered();
  }

  /**
   * Updates whether the host is away: the page is hidden, or there was no input for `IDLE_MS`. Messages that arrive in this time are not marked as
   * read.
   */
  #updateAway(): void {
    this.#conversation.setAway(document.hidden || Date.now() - this.#activeAt >= IDLE_MS);
  }

  close(): void {
    this.#isClosed = true;
    for (const interval of this.#intervals) clearInterval(interval);
    for (const event of ACTIVITIES) document.removeEventListener(event, this.#active);
    document.removeEventListener("visibilitychange", this.#visibilityChanged);
    this.#conversation.close();
    this.#thread.close();
  }

  /** Schedules one update for all changes that occur in the current task. */
  #showSoon(): void {
    if (this.#isShowDue) return;
    this.#isShowDue = true;
    queueMicrotask(() => {
      this.#isShowDue = false;
      if (!this.#isClosed) this.show();
    });
  }

  show(): void {
    const conversation = this.#conversation;
    const known = this.rooms.all.get(this.room.name);
    if (known) {
      // The host has restored the room, in any tab or browser, or the guest has reopened it.
      if (this.room.isClosed && !known.isClosed) conversation.rejoin();
      this.room = { ...known };
    } else if (conversation.state === "closed") {
      // The room was deleted in another tab or browser. A closed room has no socket that would report the deletion.
      conversation.state = "deleted";
    }
    this.#thread.show();
    this.#light.className = this.room.guestOnline ? "dot on" : "dot";
    this.#presence.textContent = this.room.guestOnline ? words.guestHere : words.guestAway;
    this.#form.hidden = this.#isReadOnly;
    this.#showTools();
    this.#showNotice();
  }

  get #isReadOnly(): boolean {
    return this.#conversation.state === "closed" || this.#conversation.state === "deleted";
  }

  #showTools(): void {
    const { isClosed: isRoomClosed, isFixed } = this.room;
    const { state } = this.#conversation;
    const isClosed = state === "closed" || isRoomClosed;
    const key = `${state === "deleted"} ${isClosed} ${isFixed}`;
    if (key === this.#toolsKey) return;
    this.#toolsKey = key;
    if (state === "deleted") return this.#tools.replaceChildren();
    const pin = tool("pin", isFixed ? words.unpin : words.pin, attempt(() => this.#change({ isFixed: !isFixed })), { "aria-pressed": `${isFixed}` });
    this.#tools.replaceChildren(
      ...(isClosed
        ? [tool("restore", words.restoreRoom, attempt(() => this.#restore()))]
        : [pin, tool("close", words.close, attempt(() => this.#closeRoom()))]),
      tool("download", words.download, attempt(() => this.#download())),
      tool("trash", words.leave, attempt(() => this.#delete())),
    );
  }

  #showNotice(): void {
    const text = this.#text.value.trim();
    const isTooLong = !fits(text);
    const states: Partial<Record<HostConversation["state"], string>> = {
      closed: words.isClosed,
      deleted: words.isDeleted,
      waiting: words.reconnecting,
    };
    const isTyping = this.#typedAt > Date.now() - TYPING_SHOWN_MS;
    const typing = isTyping ? `${this.room.guest} ${words.typing}` : "";
    const notice = isTooLong ? words.tooLong : (states[this.#conversation.state] ?? typing);
    this.#notice.classList.toggle("loud", this.#isReadOnly);
    if (this.#notice.textContent !== notice) this.#notice.textContent = notice;
    this.#submit.disabled = !text || isTooLong;
  }

  #handle(detail: ConversationEvent): void {
    if (detail.type === "ended" && detail.code === 1000) this.rooms.put({ ...this.room, isClosed: true, isFixed: false });
    if (detail.type === "ended" && detail.code === 4004) this.rooms.remove(this.room.name);
    if (detail.type === "acknowledged") this.rooms.answered(this.room.name);
    // The server has marked all messages of the room as read, so the other tabs must update their lists.
    if (detail.type === "connected") this.rooms.notifyTabs();
    dispatchEvent(new CustomEvent("pintalk", { detail: { ...detail, room: this.room.name } }));
  }

  #received(messages: Message[]): void {
    const newest = messages.at(-1);
    if (!newest) return;
    this.#typedAt = 0;
    this.#markGuestOnline();
    this.rooms.received(messages.length);
    this.#handle({ type: "received", seq: newest.seq });
  }

  #markGuestOnline(): void {
    const known = this.rooms.all.get(this.room.name);
    if (known && !this.room.guestOnline) this.rooms.put({ ...known, guestOnline: true });
  }

  #guestTyping(): void {
    this.#typedAt = Date.now();
    this.#markGuestOnline();
    this.#showNotice();
    later(TYPING_SHOWN_MS, () => this.#showNotice());
  }

  /** Called when the text in the input has changed. */
  #changed(): void {
    const { value } = this.#text;
    if (value) session.set(this.#draftKey, value);
    else session.remove(this.#draftKey);
    this.#fitHeight();
    this.#showNotice();
    if (value) this.#conversation.sendTyping();
  }

  /** Adjusts the height of the input to its text. */
  #fitHeight(): void {
    const { style } = this.#text;
    style.height = "auto";
    style.height = `${this.#text.scrollHeight}px`;
    style.overflowY = this.#text.scrollHeight > MAX_TEXT_PX ? "auto" : "hidden";
  }

  #send(event: Event): void {
    event.preventDefault();
    const text = this.#text.value.trim();
    if (!text || !fits(text)) return;
    this.#text.value = "";
    this.#changed();
    this.#conversation.send(text);
    this.#thread.scrollToEnd();
  }

  get #path(): string {
    return `api/chat/chatrooms/${this.room.id}/`;
  }

  #replaceRoom(room: Room): void {
    this.rooms.put(room);
    this.rooms.notifyTabs();
    this.show();
  }

  async #change(patch: { isFixed: boolean } | { isClosed: true }): Promise<void> {
    this.#replaceRoom(await this.api.call("PATCH", this.#path, roomFrom, patch));
  }

  async #closeRoom(): Promise<void> {
    if (await ask(words.closeAsk(this.room.guest), words.closeWhy, words.close)) await this.#change({ isClosed: true });
  }

  async #restore(): Promise<void> {
    this.#replaceRoom(await this.api.call("PATCH", `${this.#path}restore/`, roomFrom));
  }

  async #delete(): Promise<void> {
    if (!(await ask(words.leaveAsk(this.room.guest), words.leaveWhy, words.leave))) return;
    await this.api.call("DELETE", this.#path, noContent);
    session.remove(this.#draftKey);
    this.rooms.remove(this.room.name);
    this.rooms.notifyTabs();
    this.left();
  }

  async #download(): Promise<void> {
    const { name, content } = await this.api.download(`${this.#path}download/`);
    const url = URL.createObjectURL(content);
    h("a", { href: url, download: name ?? `${this.room.guest}.txt` }).click();
    // Safari reads the URL only after the click has returned.
    later(60_000, () => URL.revokeObjectURL(url));
  }
}
