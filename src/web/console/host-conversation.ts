// The host's side of the conversation with a guest. A closed room has no socket, so its messages are fetched over HTTP.
import { Conversation, type ConversationHandlers, type Message } from "../shared/conversation";
import { socketUrl } from "../shared/socket";
import { Outbox, local } from "../shared/storage";
import { ApiError, type Api } from "./api";
import { backOff } from "./backoff";
import { messagesFrom, type ListPage, type Room, type StoredMessage } from "./model";
import { base } from "./page";
import { reportFailure } from "./parts";

const PAGE = 100;
const STABLE_MS = 60_000; // duration after which an open socket is known to have been accepted
const NO_MESSAGES: ListPage<StoredMessage> = { results: [], count: 0, hasNext: false };

const NO_HANDLERS: ConversationHandlers = { changed() {}, event() {}, received() {}, typing() {} };

/** Room of which at least the name is known. The other fields are absent if only unsent messages are delivered. */
type RoomReference = Pick<Room, "name"> & Partial<Room>;

export class HostConversation extends Conversation {
  #isAway = false;
  /** Whether the view has been closed. The socket remains open until the outbox is empty. */
  #isClosing = false;
  #isClosed = false;
  /** Whether messages of the closed room are being fetched. */
  #isFetching = false;
  /** Whether all messages of the closed room have been fetched. */
  #isComplete = false;
  /** Whether the access token is being renewed. */
  #isRenewing = false;
  #refusals = 0;
  #joinedAt = 0;

  constructor(
    private readonly api: Api,
    private readonly room: RoomReference,
    on: ConversationHandlers,
  ) {
    super(true, new Outbox(outboxPrefix(room.name), () => on.changed()), on);
    if (room.createdAt) this.createdAt = new Date(room.createdAt);
    if (room.isClosed) this.#showClosedRoom();
    else this.connect();
  }

  override connect(): void {
    if (this.#isRenewing) return;
    this.#joinedAt = Date.now();
    this.join((resuming) => {
      const query: Record<string, string | number> = { v: 2, token: this.api.token };
      if (resuming || this.last) query.after = this.last;
      return socketUrl(base, `ws/chat/${this.room.name}/`, query);
    });
  }

  protected override opened(): void {
    if (this.#isAway) this.notify("away");
  }

  /** Notifies the server of whether the host is looking at the conversation. */
  setAway(isAway: boolean): void {
    if (isAway === this.#isAway) return;
    this.#isAway = isAway;
    this.notify(isAway ? "away" : "back");
  }

  protected override ended(code: number): void {
    this.state = "ended";
    if (code === 1000 || code === 4009) this.#showClosedRoom();
    else if (code === 4001) void this.#reconnectWithNewToken();
    else if (code === 4004) {
      this.state = "deleted";
      for (const { id } of this.outbox.list()) this.outbox.remove(id);
    } else this.error = `${code}`;
  }

  /** Reconnects with a new access token. Backs off if the server also rejects the new token. */
  async #reconnectWithNewToken(): Promise<void> {
    this.state = "waiting";
    this.#isRenewing = true;
    if (Date.now() - this.#joinedAt > STABLE_MS) this.#refusals = 0;
    try {
      if (this.#refusals > 0) await backOff(this.#refusals);
      this.#refusals += 1;
      await this.api.refresh();
    } catch (error) {
      // The login has ended, and the sign-in page is shown.
      if (error instanceof ApiError) return;
      throw error;
    } finally {
      this.#isRenewing = false;
    }
    if (!this.#isClosed) this.connect();
  }

  /** Closes the socket of a closed room. From then on, the messages are fetched over HTTP. */
  #showClosedRoom(): void {
    super.close();
    if (this.#isClosing) return this.#dispose();
    this.state = "closed";
    if (!this.messages.length) this.loadOlder();
    this.on.changed();
  }

  /** Joins the room after it was restored. */
  rejoin(): void {
    if (this.state === "closed") this.connect();
  }

  /** Called when the server is reachable again. Fetches the messages of a closed room if there are none yet. Otherwise reconnects at once. */
  recovered(): void {
    if (this.state === "closed" && !this.messages.length) this.loadOlder();
    else this.socket?.retryNow();
  }

  override loadOlder(): void {
    if (this.state !== "closed") return super.loadOlder();
    if (this.#isFetching || this.#isComplete || this.room.id === undefined) return;
    this.#isFetching = true;
    this.#fetch(this.room.id)
      .catch(reportFailure)
      .finally(() => (this.#isFetching = false));
  }

  async #fetch(room: number): Promise<void> {
    const path = `api/chat/chatrooms/${room}/chat-messages/?limit=${PAGE}&offset=${this.messages.length}`;
    const page = await this.api.call("GET", path, messagesFrom).catch((error: unknown) => {
      if (error instanceof ApiError && error.status === 404) return NO_MESSAGES;
      throw error;
    });
    this.add(page.results);
    this.#isComplete = !page.hasNext;
    this.#isFetching = false;
    this.on.changed();
  }

  protected override acknowledge(message: Message): void {
    super.acknowledge(message);
    if (this.#isClosing) this.close();
  }

  /** Closes the conversation. If it has a socket and unsent messages, it is closed when the server has acknowledged them. */
  override close(): void {
    this.#isClosing = this.socket !== null && this.outbox.list().length > 0;
    if (this.#isClosing) this.on = NO_HANDLERS;
    else this.#dispose();
  }

  #dispose(): void {
    this.#isClosed = true;
    super.close();
    this.outbox.close();
  }

  /** Sends the messages that were written in this browser, in any room, and were not sent before the pages were closed. */
  static sendUnsentMessages(api: Api): void {
    const names = new Set(local.keys().map((key) => /^pintalk:console:([\w-]+):out:/.exec(key)?.[1]));
    for (const name of names) {
      if (!name || !hasUnsentMessages(name)) continue;
      const conversation = new HostConversation(api, { name }, NO_HANDLERS);
      conversation.setAway(true);
      conversation.close();
    }
  }
}

const outboxPrefix = (room: string): string => `pintalk:console:${room}:out:`;

function hasUnsentMessages(room: string): boolean {
  const outbox = new Outbox(outboxPrefix(room));
  const { length } = outbox.list();
  outbox.close();
  return length > 0;
}
