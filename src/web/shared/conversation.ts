// One side of one conversation: its messages, what is not sent yet, and the socket. It does not touch the page.
//
// A message has an id before it is sent, and stays in the outbox until the server returns it with its number: that is the acknowledgement. Until then
// it is sent again under the same id, which the server accepts once. Numbers decide what is new, so nothing is shown twice.
import { encode } from "./json";
import { type Frame, isMessage, isSeq, type Message } from "./message";
import { ReconnectingSocket } from "./socket";
import type { Outbox } from "./storage";
import { later, randomId, wallClock } from "./time";

export type { Message } from "./message";

const PAGE = 50; // messages in a page of older ones (SPEC 4)
const OVERDUE_MS = 15_000; // without an acknowledgement for this long, a connection is replaced
const TYPING_MS = 2000; // between two `typing` notices
const MAX_TEXT_BYTES = 32_000; // of JSON: with the rest of its frame below 32 KiB

/** Whether a text fits into one message. */
export const fits = (text: string): boolean => new Blob([encode(text)]).size <= MAX_TEXT_BYTES;

/** What happened to a conversation; pages receive it as the detail of `pintalk` events. */
export type ConversationEvent =
  | { type: "opened"; room: string }
  | { type: "connected" }
  | { type: "waiting"; ms: number }
  | { type: "ended"; code: number }
  | { type: "acknowledged"; seq: number; ms: number }
  | { type: "received"; seq: number };

export interface ConversationHandlers {
  /** There is something new to show. */
  changed(): void;
  /** The other side is typing. */
  typing(): void;
  /** The other side wrote these while this one was in the room. */
  received(messages: Message[]): void;
  event(detail: ConversationEvent): void;
}

export type State = "idle" | "connecting" | "open" | "waiting" | "ended" | "closed" | "deleted";

export abstract class Conversation {
  messages: Message[] = [];
  state: State = "idle";
  /** Why the server does not take messages, if it does not. */
  error: string | null = null;
  /** When the room was opened, if that is known: no message is older. */
  createdAt: Date | null = null;
  /** The other side has read up to this number. */
  theirRead = 0;
  protected socket: ReconnectingSocket | null = null;
  /** Whether the next page replaces what is shown if it does not continue it. */
  protected isFresh = false;
  /** When each message of the outbox was sent on any connection, by id. */
  protected readonly sentAt = new Map<string, number>();
  protected timer = 0;
  #numbers = new Set<number>();
  #atStart = false;
  #loading = false;
  /** The number up to which this side has reported that it has read. */
  #reported = 0;
  #typedAt = 0;

  constructor(
    readonly isHost: boolean,
    readonly outbox: Outbox,
    protected on: ConversationHandlers,
  ) {}

  /** Connects to the room; opens one if there is none. */
  abstract connect(): void;
  /** The server has ended the socket for good, with a code of SPEC 4. */
  protected abstract ended(code: number): void;

  protected reset(): void {
    this.messages = [];
    this.#numbers = new Set();
    this.#atStart = this.#loading = false;
    this.theirRead = this.#reported = 0;
  }

  get last(): number {
    return this.messages[this.messages.length - 1]?.seq ?? 0;
  }

  /** Sends a text: at once, or as soon as it is possible. */
  send(text: string): void {
    this.error = null;
    this.outbox.put({ id: randomId(), message: text, datetime: wallClock(), at: Date.now() });
    this.flush();
  }

  /** Sends the outbox. `resend`: also what was sent on an earlier connection. */
  flush(resend = false): void {
    clearTimeout(this.timer);
    const pending = this.outbox.list();
    if (pending.length) {
      if (this.socket?.isOpen) {
        for (const { id, message, datetime } of pending) {
          if (this.sentAt.has(id) && !resend) continue;
          this.sentAt.set(id, performance.now());
          this.socket.send({ type: "chat_message", is_host: this.isHost, id, message, datetime });
        }
      } else if (!this.socket) this.connect();
      this.timer = later(OVERDUE_MS, () => this.#overdue());
    }
    this.on.changed();
  }

  /** Replaces a connection on which no acknowledgement arrives; the next one sends again. */
  #overdue(): void {
    if (this.socket?.isOpen && this.outbox.list().some(({ id }) => this.sentAt.has(id))) this.socket.connect();
    else this.flush();
  }

  /** Sends the outbox again because a person asked for it. */
  retry(): void {
    this.error = null;
    this.socket?.retryNow();
    this.flush(true);
  }

  /** Joins the room at `url(resuming)`. */
  protected join(url: (resuming: boolean) => URL): ReconnectingSocket {
    this.socket?.close();
    this.state = "connecting";
    const socket = new ReconnectingSocket({
      url,
      opened: () => {
        this.state = "open";
        this.#loading = false;
        this.#reported = 0;
        this.opened();
        this.emit({ type: "connected" });
        this.flush(true);
      },
      frame: (frame) => this.receive(frame),
      waiting: (ms) => {
        this.state = "waiting";
        this.emit({ type: "waiting", ms });
        this.on.changed();
      },
      ended: (code) => {
        this.socket = null;
        this.emit({ type: "ended", code });
        this.ended(code);
        this.on.changed();
      },
    });
    this.socket = socket;
    this.on.changed();
    return socket;
  }

  /** A connection is open; nothing was sent on it yet. */
  protected opened(): void {}

  protected receive(frame: Frame): void {
    const before = this.last;
    const isTheirs = frame.is_host === !this.isHost;
    if (frame.type === "chat_message") {
      const isPage = Array.isArray(frame.data);
      this.take((Array.isArray(frame.data) ? frame.data : [frame]).filter(isMessage), isPage);
    } else if (frame.message === "read" && isTheirs && isSeq(frame.seq)) this.markRead(frame.seq);
    else if (frame.message === "typing" && isTheirs) this.on.typing();
    const received = this.messages.filter(({ seq, is_host }) => seq > before && is_host === !this.isHost);
    if (before && received.length) this.on.received(received);
    this.on.changed();
  }

  protected take(frames: Message[], isPage: boolean): void {
    const oldest = this.messages[0]?.seq ?? 0;
    if (isPage && this.#loading && frames.every(({ seq }) => seq < oldest)) {
      this.#loading = false;
      this.#atStart = frames.length < PAGE;
    } else if (isPage && this.isFresh) {
      // The newest of a room that was left for a while: the messages before them are loaded on demand.
      this.isFresh = false;
      if ((frames[0]?.seq ?? 0) > this.last + 1) this.reset();
    }
    for (const frame of frames) if (frame.is_host === this.isHost) this.acknowledge(frame);
    this.add(frames);
  }

  protected acknowledge({ id, seq }: Message): void {
    this.outbox.remove(id);
    const sent = this.sentAt.get(id);
    if (sent === undefined) return;
    this.sentAt.delete(id);
    this.emit({ type: "acknowledged", seq, ms: performance.now() - sent });
  }

  protected emit(detail: ConversationEvent): void {
    this.on.event(detail);
  }

  /** Adds messages; those that are known already are ignored. */
  protected add(messages: Message[]): void {
    for (const message of messages) {
      if (this.#numbers.has(message.seq)) continue;
      this.#numbers.add(message.seq);
      this.messages.push(message);
      // An answer shows that everything before it was read.
      if (message.is_host !== this.isHost) this.markRead(message.seq);
    }
    this.messages.sort((one, other) => one.seq - other.seq);
  }

  protected markRead(seq: number): void {
    this.theirRead = Math.max(this.theirRead, seq);
  }

  /** Requests the page before the oldest message. */
  loadOlder(): void {
    const first = this.messages[0]?.seq ?? 0;
    if (this.#loading || this.#atStart || first <= 1) return;
    this.#loading = this.socket?.send({ type: "request", before: first }) ?? false;
  }

  /** Reports that this side has seen every message. */
  markSeen(): void {
    if (this.last > this.#reported && this.notify("read", { seq: this.last })) this.#reported = this.last;
  }

  /** Reports that this side is typing. */
  sendTyping(): void {
    const now = Date.now();
    if (now - this.#typedAt > TYPING_MS && this.notify("typing")) this.#typedAt = now;
  }

  protected notify(message: string, extra: object = {}): boolean {
    return this.socket?.send({ type: "notice", is_host: this.isHost, message, datetime: wallClock(), ...extra }) ?? false;
  }

  close(): void {
    clearTimeout(this.timer);
    this.socket?.close();
    this.socket = null;
  }
}
