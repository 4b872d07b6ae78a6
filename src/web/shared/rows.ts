// Renders messages as rows of a list. Unchanged rows remain in place, which preserves the scroll position and the selection.
import type { Conversation } from "./conversation";
import { h } from "./dom";
import { linkify } from "./links";
import { formatDay, formatTime, parseWallClock } from "./time";

const OVERDUE_MS = 20_000; // time without an acknowledgement after which a message is shown as failed
const GROUP_MS = 180_000; // maximum time between two messages of one side in a group

/** Message as shown in a list. */
export interface ShownMessage {
  id: string;
  is_host: boolean;
  message: string;
  datetime: string;
  /** Sequence number; absent until the message is acknowledged. */
  seq?: number;
  /** State of an unacknowledged message; absent when the message is acknowledged. */
  pending?: "sending" | "failed";
  date?: Date | null;
  /** Day heading under which the message appears. */
  day?: string;
}

export interface RowWords {
  you: string;
  sending: string;
  failed: string;
  retry: string;
  sent: string;
  read: string;
  today: string;
  yesterday: string;
}

export interface RowContext {
  words: RowWords;
  lang: string;
  /** Name of the other side. */
  name: string;
  retry(): void;
}

/** Returns all messages of a conversation, followed by its outbox. */
export function allMessages(conversation: Conversation): ShownMessage[] {
  const shown: ShownMessage[] = [...conversation.messages];
  for (const message of conversation.outbox.list()) {
    const isLate = conversation.error !== null || Date.now() - message.at > OVERDUE_MS;
    shown.push({ ...message, is_host: conversation.isHost, pending: isLate ? "failed" : "sending" });
  }
  setDays(shown, conversation);
  return shown;
}

const dateOf = (message: ShownMessage): Date | null =>
  message.date === undefined ? (message.date = parseWallClock(message.datetime)) : message.date;

/**
 * Sets the day of each message. Days never decrease, because messages are ordered by `seq` and the clocks of senders may be wrong. A message of the
 * other side is placed between the days of the viewer's own messages before and after it. No message is older than the room or in the future.
 */
function setDays(messages: ShownMessage[], { isHost, createdAt }: Conversation): void {
  const latest = new Array<number>(messages.length);
  let bound = Date.now();
  for (let at = messages.length - 1; at >= 0; at--) {
    latest[at] = bound;
    const message = messages[at];
    const time = message?.is_host === isHost ? dateOf(message)?.getTime() : undefined;
    if (time !== undefined) bound = Math.min(bound, time);
  }
  let day = createdAt?.getTime() ?? -Infinity;
  for (let at = 0; at < messages.length; at++) {
    const message = messages[at];
    if (!message) continue;
    const time = Math.min(dateOf(message)?.getTime() ?? day, latest[at] ?? day);
    day = Math.max(day, time);
    message.day = Number.isFinite(day) ? new Date(day).toDateString() : "";
  }
}

const areGrouped = (one: ShownMessage | undefined, other: ShownMessage | undefined): boolean => {
  if (!one || !other || one.is_host !== other.is_host || one.day !== other.day) return false;
  return Math.abs((dateOf(one)?.getTime() ?? 0) - (dateOf(other)?.getTime() ?? 0)) < GROUP_MS;
};

interface Row {
  /** Serialised content, which is compared to detect changes. */
  state: string;
  element: HTMLLIElement;
}

/** Shows a range of messages as rows of a list. */
export class Rows {
  #rows = new Map<string, Row>();

  constructor(
    private readonly list: HTMLElement,
    private readonly context: RowContext,
  ) {}

  /** Drops the rows. Called after the list was emptied. */
  clear(): void {
    this.#rows.clear();
  }

  show(conversation: Conversation, all: ShownMessage[], from = 0, to = all.length): void {
    const rows = new Map<string, Row>();
    const newest = newestOwn(conversation);
    for (let at = from; at < to; at++) {
      const message = all[at];
      if (!message) continue;
      const [before, after] = [all[at - 1], all[at + 1]];
      if (message.day && message.day !== before?.day) {
        const day = formatDay(new Date(message.day), this.context.lang, this.context.words);
        this.#use(rows, `day ${message.id}`, day, () => h("li", { class: "day", text: day }));
      }
      const isMine = message.is_host === conversation.isHost;
      const isLast = !areGrouped(message, after);
      const classes = [isMine && "mine", !areGrouped(before, message) && "first", isLast && "last", message.pending].filter(Boolean).join(" ");
      const mark = message.seq === undefined || message.seq !== newest ? null : newest <= conversation.theirRead ? "read" : "sent";
      let key = `${message.is_host} ${message.id}`;
      // An id may occur twice: the server accepts it again long after its first use.
      if (rows.has(key)) key += ` ${message.seq}`;
      this.#use(rows, key, `${classes} ${mark}`, () => this.#make(message, isMine, classes, isLast, mark));
    }
    this.#rows = rows;
    this.#place(rows);
  }

  #place(rows: Map<string, Row>): void {
    let next = this.list.firstChild;
    for (const { element } of rows.values()) {
      if (element === next) next = next.nextSibling;
      else this.list.insertBefore(element, next);
    }
    while (next) {
      const { nextSibling } = next;
      this.list.removeChild(next);
      next = nextSibling;
    }
  }

  #use(rows: Map<string, Row>, key: string, state: string, make: () => HTMLLIElement): void {
    const row = this.#rows.get(key);
    rows.set(key, row?.state === state ? row : { state, element: make() });
  }

  #make(message: ShownMessage, isMine: boolean, classes: string, isLast: boolean, mark: "read" | "sent" | null): HTMLLIElement {
    const { words, lang, name, retry } = this.context;
    const { pending } = message;
    const date = isLast ? dateOf(message) : null;
    const meta = pending ? words[pending] : [date && formatTime(date, lang), mark && words[mark]].filter(Boolean).join(" · ");
    return h(
      "li",
      { class: classes },
      h("span", { class: "visually-hidden", text: `${isMine ? words.you : name}: ` }),
      h("div", { class: "bubble", dir: "auto" }, ...linkify(message.message)),
      meta &&
        h(
          "div",
          { class: "meta" },
          h("span", { text: meta }),
          pending === "failed" && h("button", { type: "button", text: words.retry, onclick: retry }),
        ),
    );
  }
}

function newestOwn({ messages, isHost }: Conversation): number | undefined {
  for (let at = messages.length - 1; at >= 0; at--) if (messages[at]?.is_host === isHost) return messages[at]?.seq;
  return undefined;
}
