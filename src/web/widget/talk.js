// The guest's conversation: it opens its room when there is something to say, and finds it again. All tabs share it.
import { Conversation } from "../shared/conversation.js";
import { socketUrl } from "../shared/line.js";
import { later, randomId } from "../shared/time.js";

const KEPT = 30; // messages that are shown after a reload before the server has said anything
const ELSEWHERE_MS = 5000; // what another tab has to say, and has not said after this, is said here
const LOOK_MS = 20_000; // a closed room is looked at again after one to three times this, and ever more seldom
const REFUSAL_MS = 5000; // who has a socket for so long is in a room that is open

export class Talk extends Conversation {
  constructor(service, store, on) {
    // Nobody needs to be told that a closed room is still closed.
    super(false, store, { ...on, happened: (what) => this.isClosed || on.happened(what) });
    Object.assign(this, { service, store });
    this.recall();
  }

  /** What the browser keeps. */
  recall() {
    this.isClosed = false;
    this.room = this.store.get("room");
    this.add(this.store.get("seen") ?? []);
    this.markRead(this.store.get("hostRead") ?? 0);
    if (this.room) this.connect();
    else this.flush();
  }

  get unread() {
    const read = this.store.get("read") ?? 0;
    return this.messages.filter((message) => message.is_host && message.seq > read).length;
  }

  /** There is something to say, and no line. */
  reach() {
    if (this.room) this.connect(this.isClosed);
    else this.open();
  }

  /** Opens a room, one for all tabs. */
  async open() {
    if (this.opening || this.trouble || this.service.isOver) return;
    this.opening = true;
    try {
      const lock = navigator.locks ?? { request: (_, call) => call() };
      await lock.request(`${this.store.prefix}open`, async () => {
        this.room = this.store.get("room");
        if (this.room) return;
        // Under the same key a second try, after an answer that got lost, finds the room of the first.
        const key = this.store.get("attempt") ?? randomId();
        this.store.set("attempt", key);
        const { name, guest } = await this.service.call("POST", "/api/chat/", { "Idempotency-Key": key });
        this.room = { name, guest };
        this.store.set("room", this.room);
        this.on.happened({ type: "opened", room: name });
      });
      // Another tab that has opened it may have been heard of by now.
      if (!this.line) this.connect();
    } catch (error) {
      if (error.retryMs) later(error.retryMs, () => this.flush());
      else this.trouble = error.message;
    }
    this.opening = false;
    this.on.changed();
  }

  /** Joins the room. `resume`: opens it again if it is closed, which only a new message may do. */
  connect(resume) {
    if (this.service.isOver) return;
    this.isClosed = !resume && this.isClosed;
    this.join((again) => {
      // Who has nothing is shown the newest, and not all there ever was.
      this.isFresh = (resume && !again) || !(this.last || this.isClosed);
      return socketUrl(this.service.base, `/ws/chat/${this.room.name}/`, { v: 2, ...(!this.isFresh && { after: this.last }) });
    });
  }

  ended(code) {
    this.state = "ended";
    // How often it was found to be.
    this.isClosed = code === 1000 && this.isClosed + 1;
    if (this.isClosed) {
      this.timer = later(LOOK_MS * this.isClosed * (1 + 2 * Math.random()), () => this.wake());
      // What was on its way when the host closed the room opens it again.
      if (this.store.list().length) this.connect(true);
    } else if (code === 4004) {
      this.state = "deleted";
      this.forget();
      this.flush();
    } else {
      this.trouble = `${code}`;
      if (code === 4003) this.service.refused();
    }
  }

  /** The room is no more: the next message opens another, unless another tab has done so. */
  forget() {
    if (this.store.get("room")?.name !== this.room.name) return this.heardOf("room");
    for (const name of ["room", "seen", "read", "hostRead", "attempt"]) this.store.set(name, null);
    this.room = null;
    this.sentAt.clear();
    this.reset();
  }

  take(frames, isPage) {
    this.reopened();
    super.take(frames, isPage);
    const kept = ({ seq, id, is_host, message, datetime }) => ({ seq, id, is_host, message, datetime });
    this.store.set("seen", this.messages.slice(-KEPT).map(kept));
  }

  markRead(seq) {
    if (seq <= this.theirRead) return;
    this.theirRead = seq;
    this.store.set("hostRead", seq);
  }

  look() {
    super.look();
    if (this.last > (this.store.get("read") ?? 0)) this.store.set("read", this.last);
  }

  /** Looks whether a room that was closed is open again, which does not open it. */
  wake() {
    if (this.line || !this.isClosed) return;
    this.connect();
    const { line } = this;
    later(REFUSAL_MS, () => this.line === line && line.isOpen && this.reopened());
  }

  reopened() {
    if (!this.isClosed) return;
    this.isClosed = false;
    this.on.happened({ type: "connected" });
    this.on.changed();
  }

  /** Another tab has changed something. */
  heardOf(name) {
    if (name === "room" && this.store.get("room")?.name !== this.room?.name) {
      this.close();
      this.reset();
      this.state = "idle";
      this.recall();
    } else if (name.startsWith("out:")) {
      clearTimeout(this.timer);
      this.timer = later(ELSEWHERE_MS, () => (this.flush(), this.wake()));
    } else if (name === "hostRead") {
      this.theirRead = Math.max(this.theirRead, this.store.get(name) ?? 0);
    }
    this.on.changed();
  }
}
