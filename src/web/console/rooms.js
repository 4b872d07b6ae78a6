// The host's rooms, as the server orders them: the pinned first, then whoever was spoken to last. News comes over the status
// socket; a page of the list is read again after it, because only the server knows how much is unread. The list may say it a
// moment after the socket: until then what was heard counts. What is done elsewhere is no news: for that, all that was read is
// read again now and then, and at once when another tab of this browser says that it did something.

const PAGE = 100;
const FIRST = 20; // what has just moved stands among these
const AFTER_NEWS_MS = 1000;
const AFTER_DEEDS_MS = 300; // of another tab
const MAX_PAGES = 5; // of all rooms, in which those are looked for that are not listed
const MAX_LOOKS = 15; // for news that the list does not have: it may be of a room that is not in this part of it

const order = (one, other) =>
  other.isFixed - one.isFixed ||
  (one.isFixed ? compare(other.fixedAt, one.fixedAt) : 0) ||
  compare(other.updatedAt, one.updatedAt) ||
  other.id - one.id;
const compare = (one, other) => (one < other ? -1 : one > other ? 1 : 0);

export class Rooms {
  /** `all` that is known, by name; of these are `listed` what the server has answered for the part that is shown. */
  constructor(api, changed) {
    Object.assign(this, { api, changed, search: "", isClosed: "false", current: "", all: new Map(), listed: new Set(), news: new Map() });
    Object.assign(this, { list: [], count: 0, pages: 1, turn: 0, deeds: 0, missed: 0 });
    this.tabs = new BroadcastChannel("pintalk-console");
    this.tabs.onmessage = ({ data }) => data === api.user?.uuid && this.reread(AFTER_DEEDS_MS);
  }

  /** Shows another part of them. */
  filter(search, isClosed) {
    Object.assign(this, { search, isClosed });
    return this.load();
  }

  async fetch(page, size, { search, isClosed } = this) {
    const query = new URLSearchParams({ page, page_size: size });
    if (search) query.set("search", search);
    if (isClosed) query.set("is_closed", isClosed);
    return this.api.call("GET", `/api/chat/chatrooms/?${query}`);
  }

  /** Takes what the server has answered. */
  know(rooms, areListed) {
    for (const room of rooms) {
      this.all.set(room.name, this.withNews(room));
      if (areListed) this.listed.add(room.name);
    }
  }

  /** Whether there is a room of that name, of whatever kind and however far down; then it is known. */
  async find(name) {
    for (let page = 1, next = true; next && !this.all.has(name); page++) {
      const answer = await this.fetch(page, PAGE, {});
      this.know(answer.results.filter((room) => room.name === name));
      ({ next } = answer);
    }
    return this.all.has(name);
  }

  /** The list from its beginning. */
  async load() {
    const turn = ++this.turn;
    const page = await this.fetch(1, PAGE);
    if (turn !== this.turn) return;
    this.listed.clear();
    this.know(page.results, true);
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
      this.know(page.results, true);
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
    const current = this.all.get(this.current);
    // Who sits in a room has read all, says the server, even if nobody looks at this tab.
    if (!document.hidden) this.missed = 0;
    if (current) current.unread = document.hidden ? Math.max(current.unread, this.missed) : 0;
    this.list = [...this.listed].map((name) => this.all.get(name)).filter(fits).sort(order);
    this.changed();
  }

  /** Rooms with something unread, whatever part of them is shown. */
  get unread() {
    return [...this.all.values()].filter((room) => room.unread).length;
  }

  /** This one is looked at, or none. */
  choose(name) {
    Object.assign(this, { current: name, missed: 0 });
  }

  /** A room has changed, and this is how it is now. */
  put(room) {
    this.deeds += 1;
    this.all.set(room.name, { ...this.all.get(room.name), ...room });
    if (!this.search) this.listed.add(room.name);
    this.sort();
  }

  remove(name) {
    this.deeds += 1;
    this.forget(name);
    this.sort();
  }

  forget(name) {
    this.all.delete(name);
    this.listed.delete(name);
    this.news.delete(name);
  }

  /** Something was done here that other tabs do not hear of. */
  tell() {
    this.tabs.postMessage(this.api.user?.uuid);
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

  /** So many messages came into the room that is chosen. */
  heard(count) {
    this.missed += count;
    this.sort();
  }

  /** The host wrote in one of them. */
  answered(name) {
    this.news.delete(name);
    this.lookSoon();
    this.tell();
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
    clearTimeout(this.later);
    this.tabs.close();
    this.turn += 1;
    Object.assign(this, { isStale: false, isOver: true });
  }

  /** Reads the beginning of the list again, once for all that happens now, and until it has what was heard. */
  lookSoon() {
    this.soon ??= setTimeout(async () => {
      this.soon = null;
      const { turn, deeds } = this;
      const page = await this.fetch(1, FIRST).catch(() => null);
      for (const [name, news] of this.news) if (++news.looks > MAX_LOOKS) this.news.delete(name);
      const isLate = deeds !== this.deeds;
      if (page && turn === this.turn && !isLate) {
        this.know(page.results, true);
        this.count = page.count;
        await this.lookAround();
        this.sort();
      }
      if (!this.isOver && (isLate || this.news.size)) this.lookSoon();
    }, AFTER_NEWS_MS);
  }

  /** News of a room that is not in the part that is shown: it counts as well. */
  async lookAround() {
    if ([...this.news.keys()].every((name) => this.all.has(name))) return;
    const { results } = await this.fetch(1, FIRST, {}).catch(() => ({ results: [] }));
    this.know(results.filter(({ name }) => this.news.has(name)));
  }

  /** Reads again all that was read, once for all who ask: who has closed, deleted, pinned or read elsewhere tells nobody. */
  reread(ms = 0) {
    this.later ??= setTimeout(async () => {
      await this.readAll().catch(() => {});
      this.later = null;
      if (this.isStale) this.reread(AFTER_DEEDS_MS);
    }, ms);
    // It may have begun before what it is asked for.
    this.isStale = this.isReading;
  }

  async readAll() {
    const { turn, deeds, pages } = this;
    const found = [];
    this.isReading = true;
    try {
      let [page, read] = [{ next: true }, 0];
      while (read < pages && page.next) {
        page = await this.fetch(++read, PAGE);
        found.push(...page.results);
      }
      const names = new Set(found.map(({ name }) => name));
      const strays = await this.readStrays(names);
      if (turn !== this.turn) return;
      // What was done here meanwhile may be news to the answer.
      if (deeds !== this.deeds || pages !== this.pages) return void (this.isStale = true);
      for (const name of this.all.keys()) {
        if (names.has(name) || this.news.has(name)) continue;
        this.listed.delete(name);
        if (!strays.has(name)) this.forget(name);
      }
      this.know(found, true);
      this.know(strays.values());
      this.pages = read;
      this.settle(page);
    } finally {
      this.isReading = false;
    }
  }

  /** The rooms that are known and matter, but are not in the part that is shown: each by its name, as it is now. */
  async readStrays(listed) {
    const matters = (room) => !listed.has(room.name) && (room.name === this.current || room.unread);
    const missing = new Set([...this.all.values()].filter(matters).map(({ name }) => name));
    const strays = new Map();
    let next = true;
    for (let page = 1; missing.size && next && page <= MAX_PAGES; page++) {
      const answer = await this.fetch(page, PAGE, {});
      for (const room of answer.results) if (missing.delete(room.name)) strays.set(room.name, room);
      ({ next } = answer);
    }
    // Whatever is further down stays as it is known.
    if (next) for (const name of missing) if (this.all.has(name)) strays.set(name, this.all.get(name));
    return strays;
  }
}
