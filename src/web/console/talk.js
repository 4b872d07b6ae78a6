// The host's conversation with one guest. A closed room has no socket, but what was said in it can still be read.
import { Conversation } from "../shared/conversation.js";
import { socketUrl } from "../shared/line.js";
import { Store } from "../shared/store.js";

const PAGE = 100;
const SILENT = { changed() {}, happened() {}, news() {}, typing() {} };

export class HostTalk extends Conversation {
  constructor(api, room, on) {
    const store = new Store(`console:${room.name}`, () => on.changed());
    super(true, store, on);
    Object.assign(this, { api, room, store });
    if (room.isClosed) this.park();
    else this.reach();
  }

  reach() {
    this.join((again) => {
      const after = again || this.last ? { after: this.last } : {};
      return socketUrl(location.href, `/ws/chat/${this.room.name}/`, { v: 2, token: this.api.token, ...after });
    });
  }

  /** A new socket has to be told that the host is away. */
  flush(again) {
    if (again && this.isAway) this.notify("away");
    super.flush(again);
  }

  /** Says whether the host looks at the conversation. */
  setAway(isAway) {
    if (isAway === Boolean(this.isAway)) return;
    this.isAway = isAway;
    this.notify(isAway ? "away" : "back");
  }

  ended(code) {
    this.state = "ended";
    if (code === 1000 || code === 4009) this.park();
    else if (code === 4001) this.api.refresh().then(() => this.reach(), () => {});
    else if (code === 4004) {
      this.state = "deleted";
      for (const { id } of this.outbox.list()) this.outbox.remove(id);
    } else this.trouble = `${code}`;
  }

  /** The room is closed. */
  park() {
    super.close();
    if (this.lingers) return this.store.close();
    this.state = "closed";
    if (!this.messages.length) this.older();
    this.on.changed();
  }

  /** The room is open again. */
  unpark() {
    if (this.state === "closed") this.reach();
  }

  older() {
    if (this.state !== "closed") return super.older();
    if (this.loading || this.atStart) return;
    this.loading = true;
    this.read().catch(() => (this.loading = false));
  }

  async read() {
    const path = `/api/chat/chatrooms/${this.room.id}/chat-messages/?limit=${PAGE}&offset=${this.messages.length}`;
    const page = await this.api.call("GET", path).catch((error) => {
      if (error.status === 404) return { results: [] };
      throw error;
    });
    this.add(page.results.map(({ seq, messageId, message, datetime, is_host }) => ({ seq, id: messageId, message, datetime, is_host })));
    this.atStart = !page.next;
    this.loading = false;
    this.on.changed();
  }

  acknowledge(frame) {
    super.acknowledge(frame);
    if (this.lingers) this.close();
  }

  /** Nobody looks any more; what is still to be sent is sent before. */
  close() {
    this.lingers = Boolean(this.line) && this.outbox.list().length > 0;
    if (this.lingers) {
      this.on = SILENT;
      return;
    }
    super.close();
    this.store.close();
  }

  /** Sends what was written here, in whatever room, and did not go out before the page was left. */
  static deliverLeftovers(api) {
    const names = Object.keys(localStorage).map((key) => /^pintalk:console:([^:]+):out:/.exec(key)?.[1]);
    for (const name of new Set(names)) {
      if (!name) continue;
      const talk = new HostTalk(api, { name }, SILENT);
      talk.setAway(true);
      talk.close();
    }
  }
}
