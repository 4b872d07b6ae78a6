// Messages of a conversation of any length, divided into chunks by message number. A chunk far from the visible part is an empty box of the same
// height, so that the cost does not depend on the number of messages.
import { h } from "../shared/dom";
import { Rows, allMessages, type RowContext, type ShownMessage } from "../shared/rows";
import type { HostConversation } from "./host-conversation";
import { words } from "./words";

const CHUNK = 50; // messages per chunk
const MARGIN_PX = 1500; // distance from the visible part within which chunks are rendered
const END_PX = 60; // distance from the end within which the list counts as scrolled to the end
const OLDER_PX = 1500; // distance from the beginning at which older messages are loaded

type Range = [from: number, to: number];

interface Chunk {
  list: HTMLOListElement;
  rows: Rows;
  range: Range;
  isNear: boolean;
}

export class Thread {
  readonly element: HTMLElement;
  readonly #body = h("div", { class: "chunks" });
  readonly #newer: HTMLButtonElement;
  readonly #observer: IntersectionObserver;
  readonly #resizes: ResizeObserver;
  readonly #chunks = new Map<number, Chunk>();
  #all: ShownMessage[] = [];
  #seen = 0;
  #wasAtEnd = true;

  constructor(
    private readonly conversation: HostConversation,
    private readonly context: RowContext,
  ) {
    const toEnd = (): void => this.scrollToEnd();
    this.#newer = h("button", { class: "newer button main", type: "button", hidden: true, text: words.latest, onclick: toEnd });
    const log = { class: "talk", role: "log", tabindex: 0, "aria-label": words.messages, onscroll: () => this.#scrolled() };
    this.element = h("div", log, this.#body, this.#newer);
    const options = { root: this.element, rootMargin: `${MARGIN_PX}px 0px` };
    this.#observer = new IntersectionObserver((entries) => this.#intersected(entries), options);
    // The end of the list remains visible when an on-screen keyboard reduces the height.
    this.#resizes = new ResizeObserver(() => this.#wasAtEnd && this.scrollToEnd());
    this.#resizes.observe(this.element);
  }

  get #isAtEnd(): boolean {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    return scrollHeight - scrollTop - clientHeight < END_PX;
  }

  show(): void {
    const { conversation, element } = this;
    const wasAtEnd = this.#isAtEnd;
    const below = element.scrollHeight - element.scrollTop;
    const first = this.#all[0]?.id;
    this.#all = allMessages(conversation);
    this.#divide();
    if (wasAtEnd) this.scrollToEnd();
    else if (first !== this.#all[0]?.id) element.scrollTop = element.scrollHeight - below;
    if (wasAtEnd && !document.hidden) conversation.markSeen();
    if (wasAtEnd) this.#seen = conversation.last;
    this.#newer.hidden = conversation.last === this.#seen;
    if (element.scrollHeight <= element.clientHeight) conversation.loadOlder();
  }

  /** Assigns the messages to chunks and renders the chunks near the visible part. */
  #divide(): void {
    const ranges = this.#ranges();
    for (const [key, { list }] of this.#chunks) {
      if (ranges.has(key)) continue;
      this.#observer.unobserve(list);
      list.remove();
      this.#chunks.delete(key);
    }
    let next = this.#body.firstChild;
    for (const [key, range] of [...ranges].sort(([one], [other]) => one - other)) {
      const chunk = this.#chunks.get(key) ?? this.#add(key, range);
      chunk.range = range;
      if (chunk.list === next) next = next.nextSibling;
      else this.#body.insertBefore(chunk.list, next);
      if (chunk.isNear) this.#fill(chunk);
    }
  }

  /** Returns the range of messages in each chunk. Unsent messages belong to the newest chunk. */
  #ranges(): Map<number, Range> {
    const ranges = new Map<number, Range>();
    const newest = Math.floor(this.conversation.last / CHUNK);
    this.#all.forEach(({ seq }, at) => {
      const key = seq ? Math.floor(seq / CHUNK) : newest;
      const range = ranges.get(key);
      if (range) range[1] = at + 1;
      else ranges.set(key, [at, at + 1]);
    });
    return ranges;
  }

  #add(key: number, range: Range): Chunk {
    const list = h("ol");
    const chunk = { list, rows: new Rows(list, this.context), range, isNear: true };
    this.#chunks.set(key, chunk);
    this.#observer.observe(list);
    return chunk;
  }

  #fill(chunk: Chunk): void {
    chunk.isNear = true;
    chunk.list.style.height = "";
    chunk.rows.show(this.conversation, this.#all, ...chunk.range);
  }

  /** Replaces the rows of a chunk with an empty box of their height. */
  #empty(chunk: Chunk): void {
    const { list } = chunk;
    chunk.isNear = false;
    list.style.height = `${list.offsetHeight}px`;
    list.replaceChildren();
    chunk.rows.clear();
  }

  #intersected(entries: IntersectionObserverEntry[]): void {
    const wasAtEnd = this.#isAtEnd;
    const chunks = [...this.#chunks.values()];
    for (const { target, isIntersecting } of entries) {
      const chunk = chunks.find(({ list }) => list === target);
      if (!chunk || chunk.isNear === isIntersecting) continue;
      if (isIntersecting) this.#fill(chunk);
      else this.#empty(chunk);
    }
    if (wasAtEnd) this.scrollToEnd();
  }

  /** Scrolls to the end. First renders the chunks that become visible, because their heights may have changed. */
  scrollToEnd(): void {
    let left = this.element.clientHeight + MARGIN_PX;
    for (const [, chunk] of [...this.#chunks].sort(([one], [other]) => other - one)) {
      if (!chunk.isNear) this.#fill(chunk);
      left -= chunk.list.offsetHeight;
      if (left < 0) break;
    }
    this.element.scrollTop = this.element.scrollHeight;
    this.#wasAtEnd = true;
  }

  #scrolled(): void {
    this.#wasAtEnd = this.#isAtEnd;
    if (this.element.scrollTop < OLDER_PX) this.conversation.loadOlder();
    if (this.#wasAtEnd && !this.#newer.hidden) this.show();
  }

  close(): void {
    this.#observer.disconnect();
    this.#resizes.disconnect();
  }
}
