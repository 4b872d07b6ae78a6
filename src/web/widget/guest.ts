// The guest's side of a conversation. The first message opens a room, whose name is kept in the storage of the browser. All tabs share this storage,
// and it may be cleared at any time. The data of a room and its name form one record, so that the data is never applied to another room.
import { Conversation, type ConversationEvent, type ConversationHandlers } from "../shared/conversation";
import { decode, encode } from "../shared/json";
import type { Frame, Message } from "../shared/message";
import { pause } from "../shared/pause";
import { type ReconnectingSocket, socketUrl } from "../shared/socket";
import { local, Outbox, session } from "../shared/storage";
import { later, randomId } from "../shared/time";
import { asRecord, type RoomRecord } from "./record";
import { type Service, ServiceError } from "./service";

const MAX_STORED = 30; // maximum number of messages in the record; they are shown after a reload until the server answers
const OTHER_TAB_MS = 5000; // time after which this tab sends a message that another tab has not sent
const PROBE_MS = 20_000; // minimum delay before the first probe of a closed room; the delay is one to three times as long and grows with each probe
const ADMITTED_MS = 5000; // time after which an open socket is known to have joined an open room
const NO_ROOM_RETRY_MS = 5000;

export class GuestConversation extends Conversation {
  /** Name of the room; `null` before the first message. */
  room: string | null = null;
  /** Number of times that the room was found closed since it was last open. */
  #timesClosed = 0;
  #read = 0;
  #isOpening = false;
  #isDisposed = false;
  readonly #prefix: string;
  /** Id of the last [`reset`](GuestConversation.end) in this browser that was applied in this tab. */
  #resetAt: string | null;

  constructor(
    private readonly service: Service,
    uuid: string,
    on: ConversationHandlers,
    /** Called when the guest has ended the conversation in any tab, so that the draft can be deleted. */
    private readonly onReset: () => void,
  ) {
    const prefix = `pintalk:${uuid}:`;
    super(false, new Outbox(`${prefix}out:`), on);
    this.#prefix = prefix;
    this.outbox.changed = () => this.#scheduleOtherTabs();
    this.#resetAt = session.get(`${prefix}reset`);
    this.#applyReset();
    addEventListener("storage", this.#onStorage);
    this.#restore();
  }

  override close(): void {
    this.#isDisposed = true;
    removeEventListener("storage", this.#onStorage);
    this.outbox.close();
    super.close();
  }

  get isClosed(): boolean {
    return this.#timesClosed > 0;
  }

  get unread(): number {
    let count = 0;
    for (const { is_host, seq } of this.messages) if (is_host && seq > this.#read) count += 1;
    return count;
  }

  /** A probe of a closed room emits no events. */
  protected override emit(detail: ConversationEvent): void {
    if (!this.isClosed) super.emit(detail);
  }

  /** Continues the stored conversation, if any. */
  #restore(): void {
    const record = this.#load();
    this.#timesClosed = 0;
    this.room = record?.name ?? null;
    this.createdAt = record?.createdAt ? new Date(record.createdAt) : null;
    this.#read = record?.read ?? 0;
    this.add(record?.messages ?? []);
    this.markRead(record?.theirRead ?? 0);
    this.#migrate();
    if (this.room) this.#joinRoom();
    else this.flush();
  }

  /** Migrates the read position, which earlier releases stored under a separate key. */
  #migrate(): void {
    const read = local.get(`${this.#prefix}read`);
    if (read === null) return;
    for (const name of ["seen", "read", "hostRead"]) local.remove(this.#prefix + name);
    this.#read ||= Number(read) || 0;
  }

  #load(): RoomRecord | null {
    const record = asRecord(decode(local.get(`${this.#prefix}room`)));
    return record && record.name !== local.get(`${this.#prefix}ended`) ? record : null;
  }

  /** Stores the record of the room, unless another tab has ended the room or opened another one. */
  #store(): void {
    const { room, createdAt } = this;
    if (!room || this.#isDisposed) return;
    if (this.#hasOtherRoom()) return this.#adoptStored();
    this.#merge();
    const messages: Message[] = [];
    for (const { seq, id, is_host, message, datetime } of this.messages.slice(-MAX_STORED)) messages.push({ seq, id, is_host, message, datetime });
    const record: RoomRecord = { name: room, createdAt: createdAt?.toISOString() ?? null, messages, read: this.#read, theirRead: this.theirRead };
    const key = `${this.#prefix}room`;
    // If the quota is reached, the record is stored without messages, because the server has them.
    if (!local.set(key, encode(record)) && !local.set(key, encode({ ...record, messages: [] }))) local.set(key, encode(record));
  }

  /** Applies the read positions that other tabs have stored for this room. */
  #merge(): void {
    const stored = this.#load();
    if (stored?.name !== this.room) return;
    this.#read = Math.max(this.#read, stored?.read ?? 0);
    this.theirRead = Math.max(this.theirRead, stored?.theirRead ?? 0);
  }

  /** Returns whether the storage contains another room or marks this one as ended. An empty storage was cleared, so the conversation continues. */
  #hasOtherRoom(): boolean {
    if (this.room && local.get(`${this.#prefix}ended`) === this.room) return true;
    const stored = this.#load();
    return stored !== null && stored.name !== this.room;
  }

  /** Applies changes that other tabs have made, for example while this page was frozen. */
  sync(): void {
    this.#applyReset();
    if (this.#hasOtherRoom()) this.#adoptStored();
  }

  #applyReset(): void {
    const resetAt = local.get(`${this.#prefix}reset`);
    if (resetAt === this.#resetAt) return;
    this.#resetAt = resetAt;
    if (resetAt) session.set(`${this.#prefix}reset`, resetAt);
    // `resetAt` is empty if the storage was cleared. In that case, the guest has not ended the conversation.
    if (resetAt) this.onReset();
  }

  readonly #onStorage = ({ key }: StorageEvent): void => {
    if (key !== null && !key.startsWith(this.#prefix)) return;
    this.sync();
    this.#merge();
    this.on.changed();
  };

  /** Continues with the room that another tab has stored. */
  #adoptStored(): void {
    super.close();
    this.reset();
    this.sentAt.clear();
    this.state = "idle";
    this.#restore();
  }

  /** Called when another tab has changed the outbox. After `OTHER_TAB_MS`, sends the messages that the other tab has not sent. */
  #scheduleOtherTabs(): void {
    clearTimeout(this.timer);
    this.timer = later(OTHER_TAB_MS, () => {
      this.flush();
      this.probe();
    });
    this.on.changed();
  }

  override connect(): void {
    if (this.room) this.#joinRoom(this.isClosed);
    else void this.#openRoom();
  }

  /** Opens a room that all tabs share. */
  async #openRoom(): Promise<void> {
    if (this.#isOpening || this.error !== null || this.#isDisposed) return;
    this.#isOpening = true;
    try {
      await exclusively(`${this.#prefix}open`, () => this.#requestRoom());
    } catch (error) {
      if (error instanceof ServiceError && error.retryMs) void pause(error.retryMs).then(() => this.flush());
      else this.error = String(error);
    }
    this.#isOpening = false;
    this.on.changed();
  }

  async #requestRoom(): Promise<void> {
    if (!this.#load()) {
      // If the response is lost, the next attempt sends the same key, and the server returns the same room.
      const key = `${this.#prefix}attempt`;
      const stored = local.get(key);
      const attempt = stored && /^[\w-]{16,64}$/.test(stored) ? stored : randomId();
      local.set(key, attempt);
      const { name, createdAt } = await this.service.call("POST", "api/chat/", { "Idempotency-Key": attempt });
      if (typeof name !== "string") throw new ServiceError("no room", NO_ROOM_RETRY_MS);
      if (this.#isDisposed) return;
      local.remove(key);
      this.room = name;
      this.createdAt = typeof createdAt === "string" ? new Date(createdAt) : null;
      this.#store();
      this.emit({ type: "opened", room: name });
    }
    if (this.#isDisposed) return;
    if (!this.room) this.#restore();
    else if (!this.socket) this.#joinRoom();
  }

  /** Joins the room. `resume` reopens a closed room, so it must be set only if a new message is to be sent. */
  #joinRoom(resume = false): ReconnectingSocket | null {
    const { room } = this;
    if (!room || this.#isDisposed) return null;
    if (resume) this.#timesClosed = 0;
    return this.join((resuming) => {
      // A tab that has no messages or resumes a closed room loads the newest messages.
      this.isFresh = (resume && !resuming) || !(this.last || this.isClosed);
      return socketUrl(this.service.base, `ws/chat/${room}/`, this.isFresh ? { v: 2 } : { v: 2, after: this.last });
    });
  }

  protected override ended(code: number): void {
    this.state = "ended";
    if (code === 1000) {
      this.#timesClosed += 1;
      this.timer = later(PROBE_MS * this.#timesClosed * (1 + 2 * Math.random()), () => this.probe());
      // If a message was in flight when the host closed the room, it is still in the outbox and reopens the room.
      if (this.outbox.list().length) this.#joinRoom(true);
      return;
    }
    this.#timesClosed = 0;
    if (code === 4004) {
      this.#forget();
      this.state = "deleted";
      this.flush();
    } else {
      this.error = `${code}`;
      if (code === 4003) this.service.logRejectedOrigin();
    }
  }

  /** Drops the room. The next message opens a new one, unless another tab has already opened one. */
  #forget(): void {
    if (this.#hasOtherRoom()) return this.#adoptStored();
    // The record is removed first, because the storage may be full and would then have no space for `ended`.
    local.remove(`${this.#prefix}room`);
    local.remove(`${this.#prefix}attempt`);
    if (this.room) local.set(`${this.#prefix}ended`, this.room);
    super.close();
    this.room = this.createdAt = null;
    this.#read = this.#timesClosed = 0;
    this.error = null;
    this.sentAt.clear();
    this.reset();
  }

  /** Ends the conversation in this browser and drops unsent messages. */
  end(): void {
    this.outbox.clear();
    this.#forget();
    local.set(`${this.#prefix}reset`, randomId());
    this.#applyReset();
    this.state = "idle";
    this.on.changed();
  }

  protected override receive(frame: Frame): void {
    super.receive(frame);
    if (frame.message !== "typing") this.#store();
  }

  protected override take(frames: Message[], isPage: boolean): void {
    this.#reopened();
    const isNewest = isPage && this.isFresh;
    super.take(frames, isPage);
    // The read position is limited to the last message, because earlier releases may have stored that of another room.
    if (isNewest) this.#read = Math.min(this.#read, this.last);
  }

  override markSeen(): void {
    super.markSeen();
    if (this.last <= this.#read) return;
    this.#read = this.last;
    this.#store();
  }

  /** Checks whether a closed room was reopened. Does not reopen it. */
  probe(): void {
    if (this.socket || !this.isClosed) return;
    const socket = this.#joinRoom();
    later(ADMITTED_MS, () => {
      if (socket && this.socket === socket && socket.isOpen) this.#reopened();
    });
  }

  #reopened(): void {
    if (!this.isClosed) return;
    this.#timesClosed = 0;
    this.emit({ type: "connected" });
    this.on.changed();
  }
}

/** Ends all stored conversations of the origin. Called if the server has not returned the id of this page's service yet. */
export function forgetStored(): void {
  for (const key of local.keys()) {
    const [, prefix, kind] = /^(pintalk:(?!console:)[^:]+:)(room|attempt|out:)/.exec(key) ?? [];
    if (!prefix) continue;
    const name = kind === "room" && asRecord(decode(local.get(key)))?.name;
    local.remove(key);
    if (name) local.set(`${prefix}ended`, name);
    local.set(`${prefix}reset`, randomId());
  }
}

/**
 * Runs a task under a lock that all tabs share. If locks are unavailable because site data is blocked or the page has no TLS, runs the task without a
 * lock.
 */
async function exclusively(name: string, task: () => Promise<void>): Promise<void> {
  let hasRun = false;
  const once = () => {
    hasRun = true;
    return task();
  };
  try {
    await navigator.locks.request(name, once);
  } catch (error) {
    if (hasRun) throw error;
    await task();
  }
}
