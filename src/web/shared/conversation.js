// One side of one conversation: what was said, what is still to be sent, and the socket. It has never seen a page.
//
// A message has an id before it is sent, and stays in the outbox until it comes back with its number: that is what the server
// calls an acknowledgement. Whatever happens in between, it is sent again under the same id; the server takes an id once.
// Numbers tell what is new, so nothing is shown twice.
import { Line } from "./line.js";
import { later, randomId, wallClock } from "./time.js";

const PAGE = 50; // what the server sends of older messages at once
const OVERDUE_MS = 15_000; // after this without an acknowledgement a socket is not believed to be alive
const TYPING_MS = 2000;

/** Whether a text fits into one message: in JSON, with the rest of its frame, it stays below the 32 KiB of a frame. */
export const fits = (text) => new Blob([JSON.stringify(text)]).size <= 32e3;

export class Conversation {
  /**
   * `outbox` has `list()`, `put(message)` and `remove(id)`. `on.changed()` when there is something to show, `on.typing()`,
   * `on.news(messages)` of the other side, and `on.happened(what)` for whoever wants to know.
   */
  constructor(isHost, outbox, on) {
    Object.assign(this, { isHost, outbox, on, state: "idle", sentAt: new Map(), typedAt: 0 });
    this.reset();
  }

  reset() {
    Object.assign(this, { messages: [], numbers: new Set(), atStart: false, loading: false, theirRead: 0, told: 0 });
  }

  get last() {
    return this.messages.at(-1)?.seq ?? 0;
  }

  /** Says something: at once, or as soon as it can be said. */
  say(text) {
    this.trouble = null;
    this.outbox.put({ id: randomId(), message: text, datetime: wallClock(), at: Date.now() });
    this.flush();
  }

  /** Sends what is in the outbox. `again`: even what was sent on a line that is no more. */
  flush(again) {
    clearTimeout(this.timer);
    const outbox = this.outbox.list();
    if (outbox.length) {
      if (this.line?.isOpen) this.submit(outbox, again);
      else if (!this.line) this.reach();
      this.timer = later(OVERDUE_MS, () => this.overdue());
    }
    this.on.changed();
  }

  submit(outbox, again) {
    for (const { id, message, datetime } of outbox) {
      if (this.sentAt.has(id) && !again) continue;
      this.sentAt.set(id, performance.now());
      this.line.send({ type: "chat_message", is_host: this.isHost, id, message, datetime });
    }
  }

  /** A line on which nothing comes back is cut; the next one sends again. */
  overdue() {
    if (this.line?.isOpen && this.outbox.list().some(({ id }) => this.sentAt.has(id))) this.line.connect();
    else this.flush();
  }

  /** Tries again what did not go out. */
  retry() {
    this.trouble = null;
    this.line?.soon();
    this.flush(true);
  }

  /** Joins the room: `url(again)` is where it is. */
  join(url) {
    this.line?.close();
    this.state = "connecting";
    this.line = new Line({
      url,
      opened: () => {
        Object.assign(this, { state: "open", loading: false, told: 0 });
        this.on.happened({ type: "connected" });
        this.flush(true);
      },
      frame: (frame) => this.hear(frame),
      waiting: (ms) => {
        this.state = "waiting";
        this.on.happened({ type: "waiting", ms });
        this.on.changed();
      },
      ended: (code) => {
        this.line = null;
        this.on.happened({ type: "ended", code });
        this.ended(code);
        this.on.changed();
      },
    });
    this.on.changed();
  }

  hear(frame) {
    const before = this.last;
    const isTheirs = frame.is_host === !this.isHost;
    if (frame.type === "chat_message") this.take(frame.data ?? [frame], Boolean(frame.data));
    else if (frame.message === "read" && isTheirs) this.markRead(frame.seq);
    else if (frame.message === "typing" && isTheirs) this.on.typing();
    const news = this.messages.filter(({ seq, is_host }) => seq > before && is_host === !this.isHost);
    if (before && news.length) this.on.news(news);
    this.on.changed();
  }

  take(frames, isPage) {
    const oldest = this.messages[0]?.seq;
    if (isPage && this.loading && frames.every(({ seq }) => seq < oldest)) {
      this.loading = false;
      this.atStart = frames.length < PAGE;
    } else if (isPage && this.isFresh) {
      // The newest of a room that was left for a while: what is before them is to be asked for anew.
      this.isFresh = false;
      if (frames[0]?.seq > this.last + 1) this.reset();
    }
    for (const frame of frames) if (frame.is_host === this.isHost) this.acknowledge(frame);
    this.add(frames);
  }

  acknowledge({ id, seq }) {
    this.outbox.remove(id);
    const sent = this.sentAt.get(id);
    if (this.sentAt.delete(id)) this.on.happened({ type: "acknowledged", seq, ms: performance.now() - sent });
  }

  add(frames) {
    const fresh = frames.filter(({ seq }) => !this.numbers.has(seq) && this.numbers.add(seq));
    // Whoever answers has read what was before.
    for (const { is_host, seq } of fresh) if (is_host !== this.isHost) this.markRead(seq);
    this.messages.push(...fresh);
    this.messages.sort((one, other) => one.seq - other.seq);
  }

  markRead(seq) {
    this.theirRead = Math.max(this.theirRead, seq);
  }

  /** Asks for the page before what is there. */
  older() {
    const first = this.messages[0]?.seq ?? 0;
    if (this.loading || this.atStart || first <= 1) return;
    this.loading = Boolean(this.line?.send({ type: "request", before: first }));
  }

  /** Whoever sits here sees all there is. */
  look() {
    if (this.last > this.told && this.notify("read", { seq: this.last })) this.told = this.last;
  }

  typing() {
    const now = Date.now();
    if (now - this.typedAt > TYPING_MS && this.notify("typing")) this.typedAt = now;
  }

  notify(message, more) {
    return this.line?.send({ type: "notice", is_host: this.isHost, message, datetime: wallClock(), ...more });
  }

  close() {
    clearTimeout(this.timer);
    this.line?.close();
    this.line = null;
  }
}
