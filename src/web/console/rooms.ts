// The host's rooms in the order of the server: pinned rooms first, then by the time of the last message.
//
// The status socket reports new messages. After a report, the first page of the list is fetched again, because only the server has the unread counts.
// Until the fetched list contains the reported messages, the reports are applied to it.
//
// The socket does not report changes on other devices. All loaded pages are therefore fetched again periodically, and soon after another tab of this
// browser has reported a change.
import { later } from "../shared/time";
import { ApiError, type Api } from "./api";
import { roomsFrom, type ListPage, type Room } from "./model";
import { reportFailure } from "./parts";

const PAGE = 100;
const FIRST = 20; // number of rooms to fetch after a message; the room of the message is one of them
const AFTER_MESSAGE_MS = 1000;
const AFTER_CHANGE_MS = 300; // delay after a change in another tab
const MAX_PAGES = 5; // maximum number of pages of all rooms that are read to update loaded rooms outside the shown list
const MAX_READS = 15; // maximum number of reads after a report; the room may not belong to the shown list

/** Filter by state: open, closed or all rooms. */
export type Part = "false" | "true" | "";

/** Message that the status socket has reported and that is missing from the list. */
interface Arrival {
  preview: string;
  at: string;
  /** Time of the previous message in the room. */
  previousAt: string | null;
  reads: number;
}

interface Filter {
  search?: string;
  isClosed?: Part;
}

const compare = (one: string | number, other: string | number): number => (one < other ? -1 : one > other ? 1 : 0);

const byOrder = (one: Room, other: Room): number =>
  Number(other.isFixed) - Number(one.isFixed) ||
  (one.isFixed ? compare(other.fixedAt ?? "", one.fixedAt ?? "") : 0) ||
  compare(other.updatedAt, one.updatedAt) ||
  other.id - one.id;

/** Opens a channel to the other tabs. Returns `null` if the browser blocks site data. */
function openChannel(name: string): BroadcastChannel | null {
  try {
    return new BroadcastChannel(name);
  } catch {
    return null;
  }
}

/**
 * Logs the failure of a background read. Ignores connection problems and the end of the login, because the banner and the sign-in page explain them.
 */
function logFailure(error: unknown): void {
  const isConnection = error instanceof ApiError && (error.problem || error.isUnauthorized);
  if (!isConnection) console.warn("PinTalk: failed to read the list of rooms", error);
}

export class Rooms {
  search = "";
  isClosed: Part = "false";
  /** Name of the shown room. */
  current = "";
  /** All loaded rooms, by name. */
  readonly all = new Map<string, Room>();
  /** The rooms that match the filter, in the order of the server. */
  list: Room[] = [];
  isEnded = false;
  /** Names of the rooms that the server has returned for the current filter. */
  readonly #listed = new Set<string>();
  readonly #arrivals = new Map<string, Arrival>();
  readonly #tabs = openChannel("pintalk-console");
  #hasNext = false;
  #pages = 1;
  /** Incremented when the filter changes. Responses for an earlier filter are dropped. */
  #generation = 0;
  /** Number of changes made in this tab. Responses to earlier reads may not contain them. */
  #changes = 0;
  /** Number of messages that arrived in the shown room while the page was hidden. */
  #unseen = 0;
  #isLoading = false;
  #isReading = false;
  #isStale = false;
  #refreshTimer = 0;
  #rereadTimer = 0;

  constructor(
    private readonly api: Api,
    private readonly changed: () => void,
  ) {
    if (this.#tabs) {
      this.#tabs.onmessage = ({ data }) => {
        if (api.isLoggedIn && data === api.user.uuid) this.reread(AFTER_CHANGE_MS);
      };
    }
  }

  /** Sets the filter and loads the first page of the filtered list. */
  filter(search: string, isClosed: Part): void {
    this.search = search;
    this.isClosed = isClosed;
    this.#load().catch(reportFailure);
  }

  #fetch(page: number, size: number, { search, isClosed }: Filter = this): Promise<ListPage<Room>> {
    const query = new URLSearchParams({ page: `${page}`, page_size: `${size}` });
    if (search) query.set("search", search);
    if (isClosed) query.set("is_closed", isClosed);
    return this.api.call("GET", `api/chat/chatrooms/?${query}`, roomsFrom);
  }

  #store(rooms: Iterable<Room>, areListed: boolean): void {
    for (const room of rooms) {
      this.all.set(room.name, this.#withArrival(room));
      if (areListed) this.#listed.add(room.name);
    }
  }

  /** Searches all rooms for a name and loads the room. Resolves to whether the room exists. */
  async find(name: string): Promise<boolean> {
    for (let page = 1, hasNext = true; hasNext && !this.all.has(name); page++) {
      const answer = await this.#fetch(page, PAGE, {});
      this.#store(
        answer.results.filter((room) => room.name === name),
        false,
      );
      ({ hasNext } = answer);
    }
    return this.all.has(name);
  }

  async #load(): Promise<void> {
    const generation = ++this.#generation;
    const page = await this.#fetch(1, PAGE);
    if (generation !== this.#generation) return;
    this.#listed.clear();
    this.#store(page.results, true);
    this.#pages = 1;
    this.#hasNext = page.hasNext;
    this.sort();
  }

  /** Loads the next page, if any. */
  loadMore(): void {
    if (this.#isLoading || !this.#hasNext) return;
    this.#loadNext().catch(logFailure);
  }

  async #loadNext(): Promise<void> {
    const generation = this.#generation;
    this.#isLoading = true;
    const page = await this.#fetch(this.#pages + 1, PAGE).finally(() => (this.#isLoading = false));
    if (generation !== this.#generation) return;
    this.#pages += 1;
    this.#store(page.results, true);
    this.#hasNext = page.hasNext;
    this.sort();
  }

  /** Sorts the shown rooms and shows them. */
  sort(): void {
    const current = this.all.get(this.current);
    // While this tab is hidden, messages that arrive in the shown room count as unread, even if the server does not count them.
    if (!document.hidden) this.#unseen = 0;
    if (current) current.unread = document.hidden ? Math.max(current.unread, this.#unseen) : 0;
    const listed = [...this.#listed].map((name) => this.all.get(name));
    const fits = (room: Room | undefined): room is Room => !!room && (!this.isClosed || `${room.isClosed}` === this.isClosed);
    this.list = listed.filter(fits).sort(byOrder);
    this.changed();
  }

  /** Number of loaded rooms with unread messages, whether they are listed or not. */
  get unread(): number {
    return [...this.all.values()].filter((room) => room.unread > 0).length;
  }

  /** Sets the shown room. An empty name means that no room is shown. */
  choose(name: string): void {
    this.current = name;
    this.#unseen = 0;
  }

  /** Replaces a room after it was changed in this tab. */
  put(room: Room): void {
    this.#changes += 1;
    this.all.set(room.name, room);
    if (!this.search) this.#listed.add(room.name);
    this.sort();
  }

  remove(name: string): void {
    this.#changes += 1;
    this.#forget(name);
    this.sort();
  }

  #forget(name: string): void {
    this.all.delete(name);
    this.#listed.delete(name);
    this.#arrivals.delete(name);
  }

  /** Notifies the other tabs of a change made in this tab. */
  notifyTabs(): void {
    if (this.api.isLoggedIn && !this.isEnded) this.#tabs?.postMessage(this.api.user.uuid);
  }

  /** Applies a report from the status socket that a guest has sent a message. */
  messageArrived(name: string, preview: string): void {
    const room = this.all.get(name);
    const previousAt = this.#arrivals.get(name)?.previousAt ?? room?.latestMsgAt ?? null;
    this.#arrivals.set(name, { preview, previousAt, at: new Date().toISOString(), reads: 0 });
    if (room) this.all.set(name, this.#withArrival({ ...room, latestMsgAt: previousAt, unread: room.unread + 1 }));
    this.sort();
    this.refreshSoon();
  }

  /** Counts messages that have just arrived in the shown room. */
  received(count: number): void {
    this.#unseen += count;
    this.sort();
  }

  /** Updates a room after the host sent a message. */
  answered(name: string): void {
    this.#arrivals.delete(name);
    this.refreshSoon();
    this.notifyTabs();
  }

  /** Returns the room with the preview of its reported message, or the room unchanged if it already contains that message or none was reported. */
  #withArrival(room: Room): Room {
    const arrival = this.#arrivals.get(room.name);
    if (!arrival) return room;
    const { preview, at, previousAt } = arrival;
    if (room.latestMsg?.startsWith(preview) && room.latestMsgAt !== previousAt) {
      this.#arrivals.delete(room.name);
      return room;
    }
    return { ...room, latestMsg: preview, latestMsgAt: at, updatedAt: at, unread: Math.max(room.unread, 1), guestOnline: true };
  }

  close(): void {
    this.isEnded = true;
    this.#isStale = false;
    this.#generation += 1;
    this.#arrivals.clear();
    clearTimeout(this.#refreshTimer);
    clearTimeout(this.#rereadTimer);
    this.#tabs?.close();
  }

  /**
   * Schedules a fetch of the first rooms of the list. Requests within a second share one fetch. The fetch is repeated until the list contains all
   * reported messages. Reports that are still missing after `MAX_READS` fetches are dropped.
   */
  refreshSoon(): void {
    if (this.isEnded) return;
    this.#refreshTimer ||= later(AFTER_MESSAGE_MS, () => void this.#refresh());
  }

  async #refresh(): Promise<void> {
    this.#refreshTimer = 0;
    const [generation, changes] = [this.#generation, this.#changes];
    const page = await this.#fetch(1, FIRST).catch(logFailure);
    for (const [name, arrival] of this.#arrivals) if (++arrival.reads > MAX_READS) this.#arrivals.delete(name);
    const isLate = changes !== this.#changes;
    if (page && generation === this.#generation && !isLate) {
      this.#store(page.results, true);
      await this.#readUnlistedArrivals();
      this.sort();
    }
    if (isLate || this.#arrivals.size) this.refreshSoon();
  }

  /** Fetches the unlisted rooms with reported messages, because they are also counted as unread. */
  async #readUnlistedArrivals(): Promise<void> {
    if ([...this.#arrivals.keys()].every((name) => this.all.has(name))) return;
    const page = await this.#fetch(1, FIRST, {}).catch(logFailure);
    if (!page) return;
    this.#store(
      page.results.filter(({ name }) => this.#arrivals.has(name)),
      false,
    );
  }

  /** Schedules a fetch of all loaded pages. Requests within `ms` share one fetch. */
  reread(ms = 0): void {
    if (this.isEnded) return;
    this.#rereadTimer ||= later(ms, () => void this.#rereadNow());
    // The response to a read in progress may not contain the change that caused this request, so another read follows.
    this.#isStale = this.#isReading;
  }

  async #rereadNow(): Promise<void> {
    this.#isReading = true;
    await this.#readAll().catch(logFailure);
    this.#isReading = false;
    this.#rereadTimer = 0;
    if (this.#isStale) this.reread(AFTER_CHANGE_MS);
  }

  async #readAll(): Promise<void> {
    const [generation, changes, pages] = [this.#generation, this.#changes, this.#pages];
    const found: Room[] = [];
    let [read, hasNext] = [0, true];
    while (read < pages && hasNext) {
      const page = await this.#fetch(++read, PAGE);
      found.push(...page.results);
      ({ hasNext } = page);
    }
    const names = new Set(found.map(({ name }) => name));
    const unlisted = await this.#readUnlisted(names);
    if (generation !== this.#generation) return;
    if (changes !== this.#changes || pages !== this.#pages) {
      this.#isStale = true;
      return;
    }
    for (const name of this.all.keys()) {
      if (names.has(name) || this.#arrivals.has(name)) continue;
      this.#listed.delete(name);
      if (!unlisted.has(name)) this.#forget(name);
    }
    this.#store(found, true);
    this.#store(unlisted.values(), false);
    this.#pages = read;
    this.#hasNext = hasNext;
    this.sort();
  }

  /** Fetches the loaded rooms that are not listed but are shown or have unread messages. */
  async #readUnlisted(listed: Set<string>): Promise<Map<string, Room>> {
    const matters = (room: Room): boolean => !listed.has(room.name) && (room.name === this.current || room.unread > 0);
    const missing = new Set([...this.all.values()].filter(matters).map(({ name }) => name));
    const unlisted = new Map<string, Room>();
    let hasNext = true;
    for (let page = 1; missing.size && hasNext && page <= MAX_PAGES; page++) {
      const answer = await this.#fetch(page, PAGE, {});
      for (const room of answer.results) if (missing.delete(room.name)) unlisted.set(room.name, room);
      ({ hasNext } = answer);
    }
    // Rooms on later pages are not fetched and keep their last known state.
    for (const name of hasNext ? missing : []) {
      const room = this.all.get(name);
      if (room) unlisted.set(name, room);
    }
    return unlisted;
  }
}
