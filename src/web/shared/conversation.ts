// One side of a conversation: its messages, the outbox with the unsent ones, and the socket. This module does not access the page.
//
// A message receives an id before it is sent. It remains in the outbox until the server acknowledges it by returning it with its number. Until then,
// it is sent again with the same id, and the server accepts it only once. Messages are identified by number, so each is shown once.
import { encode } from "./json";
import { type Frame, isMessage, isSeq, type Message } from "./message";
import { ReconnectingSocket } from "./socket";
import type { Outbox } from "./storage";
import { later, randomId, wallClock } from "./time";

export type { Message } from "./message";

const PAGE = 50; // number of messages in a page of older messages (SPEC 4)
const OVERDUE_MS = 15_000; // time without an acknowledgement after which the connection is replaced
const TYPING_MS = 2000; // minimum time between two `typing` notices
const MAX_TEXT_BYTES = 32_000; // maximum size of the text as JSON; the frame that contains it is below 32 KiB

/** Returns whether `text` fits into one message. */
export const fits = (text: string): boolean => new Blob([encode(text)]).size <= MAX_TEXT_BYTES;

/** Change of a conversation. Pages receive it as the `detail` of a `pintalk` event. */
export type ConversationEvent =
  | { type: "opened"; room: string }
  | { type: "connected" }
  | { type: "waiting"; ms: number }
  | { type: "ended"; code: number }
  | { type: "acknowledged"; seq: number; ms: number }
  | { type: "received"; seq: number };

export interface ConversationHandlers {
  /** Called when the data to show has changed. */
  changed(): void;
  /** Called when the other side is typing. */
  typing(): void;
  /** Called when new messages of the other side have arrived. Not called for the first messages of the room that are loaded. */
  received(messages: Message[]): void;
  event(detail: ConversationEvent): void;
}

export type State = "idle" | "connecting" | "open" | "waiting" | "ended" | "closed" | "deleted";

export abstract class Conversation {
  messages: Message[] = [];
  state: State = "idle";
  /** Reason why the server rejects messages, or `null`. */
  error: string | null = null;
  /** Time at which the room was opened, or `null` if it is unknown. No message is older. */
  createdAt: Date | null = null;
  /** Number of the last message that the other side has read. */
  theirRead = 0;
  protected socket: ReconnectingSocket | null = null;
  /** Whether the next page replaces the shown messages if messages between them and the page are missing. */
  protected isFresh = false;
  /** Time at which each message of the outbox was last sent, by id. The connection may have been replaced since then. */
  protected readonly sentAt = new Map<string, number>();
  protected timer = 0;
  #numbers = new Set<number>();
  #atStart = false;
  #loading = false;
  /** Number of the last message that this side has reported as read. */
  #reported = 0;
  #typedAt = 0;

  constructor(
    readonly isHost: boolean,
    readonly outbox: Outbox,
    protected on: ConversationHandlers,
  ) {}

  /** Connects to the room. Opens a room if there is none. */
  abstract connect(): void;
  /** Called when the server has permanently closed the socket with a close code (SPEC 4). */
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

  /** Sends `text` as a message, either at once or when the socket is connected. */
  send(text: string): void {
    this.error = null;
    this.outbox.put({ id: randomId(), message: text, datetime: wallClock(), at: Date.now() });
    this.flush();
  }

  /** Sends the messages of the outbox. If `resend` is `true`, includes messages that were sent on an earlier connection. */
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

  /** Replaces a connection on which no acknowledgement arrives. The outbox is sent again on the new connection. */
  #overdue(): void {
    if (this.socket?.isOpen && this.outbox.list().some(({ id }) => this.sentAt.has(id))) this.socket.connect();
    else this.flush();
  }

  /** Sends the outbox again at the user's request. */
  retry(): void {
    this.error = null;
    this.socket?.retryNow();
    this.flush(true);
  }

  /**
   * Joins a room. `url` returns the URL of each connection attempt. Its argument is `true` if the server admitted an
   * earlier connection of this socket.
   */
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

  /** Called when a connection is open and nothing has been sent on it. */
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
      // After a long absence, the page contains only the newest messages. Earlier messages are loaded on demand.
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

  /** Adds messages. Ignores messages that were added before. */
  protected add(messages: Message[]): void {
    for (const message of messages) {
      if (this.#numbers.has(message.seq)) continue;
      this.#numbers.add(message.seq);
      this.messages.push(message);
      // A side that replies has read all earlier messages.
      if (message.is_host !== this.isHost) this.markRead(message.seq);
    }
    this.messages.sort((one, other) => one.seq - other.seq);
  }

  protected markRead(seq: number): void {
    this.theirRead = Math.max(this.theirRead, seq);
  }

  /** Requests the page of messages before the oldest one. */
  loadOlder(): void {
    const first = this.messages[0]?.seq ?? 0;
    if (this.#loading || this.#atStart || first <= 1) return;
    this.#loading = this.socket?.send({ type: "request", before: first }) ?? false;
  }

  /** Reports that this side has read all messages. */
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
