// The guest's conversation. Its room is opened by the first message and found again in the browser's storage, which all tabs share and which can
// disappear at any time. What belongs to a room is stored as one record with its name, so that it is never applied to another room.
import { Conversation, type ConversationEvent, type ConversationHandlers } from "../shared/conversation";
import { decode, encode } from "../shared/json";
import type { Frame, Message } from "../shared/message";
import { pause } from "../shared/pause";
import { type ReconnectingSocket, socketUrl } from "../shared/socket";
import { local, Outbox, session } from "../shared/storage";
import { later, randomId } from "../shared/time";
import { asRecord, type RoomRecord } from "./record";
import { type Service, ServiceError } from "./service";

const KEPT = 30; // newest messages in the record, shown after a reload before the server answers
const ELSEWHERE_MS = 5000; // a message that another tab has not sent after this is sent here
const PROBE_MS = 20_000; // a closed room is checked after one to three times this, and each time later
const ADMITTED_MS = 5000; // a socket that is open for this long is in an open room
const NO_ROOM_RETRY_MS = 5000;

export class GuestConversation extends Conversation {
  /** Name of the room, `null` before the first message. */
  room: string | null = null;
  /** How often the room was found closed since it was last open. */
  #timesClosed = 0;
  #read = 0;
  #isOpening = false;
  #isOver = false;
  readonly #prefix: string;
  /** The last [`reset`](GuestConversation.end) in this browser that this tab has followed. */
  #resetAt: string | null;

  constructor(
    private readonly service: Service,
    uuid: string,
    on: ConversationHandlers,
    /** The guest has ended the conversation in some tab: what is typed belongs to it. */
    private readonly onReset: () => void,
  ) {
    const prefix = `pintalk:${uuid}:`;
    super(false, new Outbox(`${prefix}out:`), on);
    this.#prefix = prefix;
    this.outbox.changed = () => this.#sendElsewhere();
    this.#resetAt = session.get(`${prefix}reset`);
    this.#followReset();
    addEventListener("storage", this.#onStorage);
    this.#restore();
  }

  override close(): void {
    this.#isOver = true;
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

  /** A closed room is probed in silence. */
  protected override emit(detail: ConversationEvent): void {
    if (!this.isClosed) super.emit(detail);
  }

  /** Continues the conversation that the browser keeps, if there is one. */
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

  /** Takes over what earlier releases stored beside the room. */
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

  /** Stores the room with all that belongs to it, unless another tab has ended it or opened another. */
  #store(): void {
    const { room, createdAt } = this;
    if (!room || this.#isOver) return;
    if (this.#hasMoved()) return this.#follow();
    this.#merge();
    const messages: Message[] = [];
    for (const { seq, id, is_host, message, datetime } of this.messages.slice(-KEPT)) messages.push({ seq, id, is_host, message, datetime });
    const record: RoomRecord = { name: room, createdAt: createdAt?.toISOString() ?? null, messages, read: this.#read, theirRead: this.theirRead };
    const key = `${this.#prefix}room`;
    // Under a full quota the messages matter least: the server has them.
    if (!local.set(key, encode(record)) && !local.set(key, encode({ ...record, messages: [] }))) local.set(key, encode(record));
  }

  /** Takes what other tabs know of the same room. */
  #merge(): void {
    const stored = this.#load();
    if (stored?.name !== this.room) return;
    this.#read = Math.max(this.#read, stored?.read ?? 0);
    this.theirRead = Math.max(this.theirRead, stored?.theirRead ?? 0);
  }

  /** Whether the storage has another room than this tab, or marks this one as ended. An empty storage was cleared, and the conversation goes on. */
  #hasMoved(): boolean {
    if (this.room && local.get(`${this.#prefix}ended`) === this.room) return true;
    const stored = this.#load();
    return stored !== null && stored.name !== this.room;
  }

  /** Takes over what other tabs did while this page was frozen. */
  sync(): void {
    this.#followReset();
    if (this.#hasMoved()) this.#follow();
  }

  #followReset(): void {
    const resetAt = local.get(`${this.#prefix}reset`);
    if (resetAt === this.#resetAt) return;
    this.#resetAt = resetAt;
    if (resetAt) session.set(`${this.#prefix}reset`, resetAt);
    // A storage that was cleared is no reset.
    if (resetAt) this.onReset();
  }

  readonly #onStorage = ({ key }: StorageEvent): void => {
    if (key !== null && !key.startsWith(this.#prefix)) return;
    this.sync();
    this.#merge();
    this.on.changed();
  };

  /** Continues with what another tab has stored. */
  #follow(): void {
    super.close();
    this.reset();
    this.sentAt.clear();
    this.state = "idle";
    this.#restore();
  }

  /** Another tab has put a message, and sends it; if it does not, this one does. */
  #sendElsewhere(): void {
    clearTimeout(this.timer);
    this.timer = later(ELSEWHERE_MS, () => {
      this.flush();
      this.probe();
    });
    this.on.changed();
  }

  override connect(): void {
    if (this.room) this.#joinRoom(this.isClosed);
    else void this.#openRoom();
  }

  /** Opens a room, one for all tabs. */
  async #openRoom(): Promise<void> {
    if (this.#isOpening || this.error !== null || this.#isOver) return;
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
      // A second attempt under the same key, after a response that was lost, returns the room of the first.
      const key = `${this.#prefix}attempt`;
      const stored = local.get(key);
      const attempt = stored && /^[\w-]{16,64}$/.test(stored) ? stored : randomId();
      local.set(key, attempt);
      const { name, createdAt } = await this.service.call("POST", "api/chat/", { "Idempotency-Key": attempt });
      if (typeof name !== "string") throw new ServiceError("no room", NO_ROOM_RETRY_MS);
      if (this.#isOver) return;
      local.remove(key);
      this.room = name;
      this.createdAt = typeof createdAt === "string" ? new Date(createdAt) : null;
      this.#store();
      this.emit({ type: "opened", room: name });
    }
    if (this.#isOver) return;
    if (!this.room) this.#restore();
    else if (!this.socket) this.#joinRoom();
  }

  /** `resume`: opens the room again if it is closed, which only a new message may do. */
  #joinRoom(resume = false): ReconnectingSocket | null {
    const { room } = this;
    if (!room || this.#isOver) return null;
    if (resume) this.#timesClosed = 0;
    return this.join((resuming) => {
      // A tab that has nothing, or resumes a closed room, is shown the newest messages.
      this.isFresh = (resume && !resuming) || !(this.last || this.isClosed);
      return socketUrl(this.service.base, `ws/chat/${room}/`, this.isFresh ? { v: 2 } : { v: 2, after: this.last });
    });
  }

  protected override ended(code: number): void {
    this.state = "ended";
    if (code === 1000) {
      this.#timesClosed += 1;
      this.timer = later(PROBE_MS * this.#timesClosed * (1 + 2 * Math.random()), () => this.probe());
      // A message that was being sent when the host closed the room opens it again.
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
      if (code === 4003) this.service.complainOfOrigin();
    }
  }

  /** The room is over for this browser: the next message opens another, unless another tab has done so. */
  #forget(): void {
    if (this.#hasMoved()) return this.#follow();
    // Removed first: under a full quota there is no space for the mark before.
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

  /** Ends the conversation in this browser, with what is not sent yet. */
  end(): void {
    this.outbox.clear();
    this.#forget();
    local.set(`${this.#prefix}reset`, randomId());
    this.#followReset();
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
    // Earlier releases could keep the number of another room.
    if (isNewest) this.#read = Math.min(this.#read, this.last);
  }

  override markSeen(): void {
    super.markSeen();
    if (this.last <= this.#read) return;
    this.#read = this.last;
    this.#store();
  }

  /** Checks whether a closed room is open again, which does not open it. */
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

/** Ends the conversations of all services that the browser keeps, before the server has said which one is this page's. */
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

/** Runs a task while no other tab runs it. Browsers that block site data, and pages without TLS, have no locks. */
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
