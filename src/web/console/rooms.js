// The host's rooms, as the server orders them: the pinned first, then whoever was spoken to last. News comes over the status
// socket; a page of the list is read again after it, because only the server knows how much is unread. The list may say it a
// moment after the socket: until then what was heard counts.

const PAGE = 100;
const FIRST = 20; // what has just moved stands among these
const AFTER_NEWS_MS = 1000;
const MAX_LOOKS = 15; // for news that the list does not have: it may be of a room that is not in this part of it

const order = (one, other) =>
  other.isFixed - one.isFixed ||
  (one.isFixed ? compare(other.fixedAt, one.fixedAt) : 0) ||
  compare(other.updatedAt, one.updatedAt) ||
  other.id - one.id;
const compare = (one, other) => (one < other ? -1 : one > other ? 1 : 0);

export class Rooms {
  constructor(api, changed) {
    Object.assign(this, { api, changed, search: "", isClosed: "false", current: "", all: new Map(), news: new Map(), list: [], count: 0, turn: 0 });
  }

  /** Shows another part of them. */
  filter(search, isClosed) {
    Object.assign(this, { search, isClosed });
    return this.load();
  }

  async fetch(page, size) {
    const query = new URLSearchParams({ page, page_size: size });
    if (this.search) query.set("search", this.search);
    if (this.isClosed) query.set("is_closed", this.isClosed);
    return this.api.call("GET", `/api/chat/chatrooms/?${query}`);
  }

  /** The list from its beginning. */
  async load() {
    const turn = ++this.turn;
    const page = await this.fetch(1, PAGE);
    if (turn !== this.turn) return;
    this.all = new Map(page.results.map((room) => [room.name, this.withNews(room)]));
    this.pages = 1;
    this.settle(page);
  }

  /** What is behind what is there. */
  async more() {
    if (this.loading || !this.next) return;
    this.loading = true;
    const turn = this.turn;
    try {
      const page = await this.fetch(this.pages + 1, PAGE);
      if (turn !== this.turn) return;
      this.pages += 1;
      for (const room of page.results) this.all.set(room.name, this.withNews(room));
      this.settle(page);
    } finally {
      this.loading = false;
    }
  }

  settle(page) {
    this.count = page.count;
    this.next = page.next;
    this.sort();
  }

  sort() {
    const fits = (room) => !this.isClosed || String(room.isClosed) === this.isClosed;
    for (const room of this.all.values()) if (room.name === this.current && !document.hidden) room.unread = 0;
    this.list = [...this.all.values()].filter(fits).sort(order);
    this.changed();
  }

  get unread() {
    return this.list.filter((room) => room.unread).length;
  }

  /** A room has changed, and this is how it is now. */
  put(room) {
    this.all.set(room.name, { ...this.all.get(room.name), ...room });
    this.sort();
  }

  remove(name) {
    this.all.delete(name);
    this.news.delete(name);
    this.sort();
  }

  /** A guest wrote in one of the rooms. */
  arrived({ chatroom, preview }) {
    const room = this.all.get(chatroom);
    const was = this.news.get(chatroom)?.was ?? room?.latestMsgAt;
    this.news.set(chatroom, { preview, was, at: new Date().toISOString(), looks: 0 });
    if (room) this.all.set(chatroom, this.withNews({ ...room, latestMsgAt: was, unread: room.unread + 1 }));
    this.sort();
    this.lookSoon();
  }

  /** The host wrote in one of them. */
  answered(name) {
    this.news.delete(name);
    this.lookSoon();
  }

  /** A room as the list has it, or as it must be by what was heard since. */
  withNews(room) {
    const news = this.news.get(room.name);
    if (!news) return room;
    if (room.latestMsg?.startsWith(news.preview) && room.latestMsgAt !== news.was) {
      this.news.delete(room.name);
      return room;
    }
    const { preview, at } = news;
    return { ...room, latestMsg: preview, latestMsgAt: at, updatedAt: at, unread: Math.max(room.unread, 1), guestOnline: true };
  }

  close() {
    this.news.clear();
    clearTimeout(this.soon);
  }

  /** Reads the beginning of the list again, once for all that happens now, and until it has what was heard. */
  lookSoon() {
    this.soon ??= setTimeout(async () => {
      this.soon = null;
      const turn = this.turn;
      const page = await this.fetch(1, FIRST).catch(() => null);
      for (const [name, news] of this.news) if (++news.looks > MAX_LOOKS) this.news.delete(name);
      if (page && turn === this.turn) {
        for (const room of page.results) this.all.set(room.name, this.withNews(room));
        this.count = page.count;
        this.sort();
      }
      if (this.news.size) this.lookSoon();
    }, AFTER_NEWS_MS);
  }
}
