// Workspace of the logged-in host. It shows the rooms and, beside them, a conversation or the settings.
import { h } from "../shared/dom";
import type { Frame } from "../shared/message";
import { ReconnectingSocket, socketUrl } from "../shared/socket";
import { later } from "../shared/time";
import { preventPageScroll } from "../shared/swipe";
import { ApiError, type Api } from "./api";
import { backOff } from "./backoff";
import { ConversationView } from "./conversation";
import { HostConversation } from "./host-conversation";
import { base, setFragment } from "./page";
import { attempt, avatar, toast, tool, type View } from "./parts";
import { RoomList } from "./room-list";
import { Rooms, type Part } from "./rooms";
import { reason } from "./sentences";
import { Settings } from "./settings";
import { words } from "./words";

const TITLE = "PinTalk console";
const SEARCH_DELAY_MS = 250; // delay after the last key press
const REREAD_MS = 60_000; // mean time between reads of all loaded pages while the page is visible
const POLL_MS = 30_000; // interval between reads of the list while no status socket is open
const PRESENCE_CHECK_MS = 1000;
const STABLE_MS = 60_000; // duration after which an open status socket is known to have been accepted
/** Events after which the list may be outdated: the page becomes visible, the device wakes up, or its network changes. */
const DOCUMENT_WAKE_EVENTS = ["visibilitychange", "resume"];
const WINDOW_WAKE_EVENTS = ["focus", "online", "pageshow"];

export class Workspace implements View {
  readonly element: HTMLElement;
  readonly #rooms: Rooms;
  readonly #list: RoomList;
  readonly #light = h("i", { class: "dot" });
  readonly #presence = h("span", { class: "faint" });
  readonly #me = h("div", { class: "me" });
  readonly #search = h("input", { type: "search", placeholder: words.search, "aria-label": words.search });
  readonly #parts = h("div", { class: "kinds", role: "group", "aria-label": words.rooms });
  readonly #main = h("main");
  readonly #intervals: number[];
  #status: ReconnectingSocket | null = null;
  #connectedAt = 0;
  #refusals = 0;
  #retryTimer = 0;
  #searchTimer = 0;
  #rereadTimer = 0;
  #part: Part = "false";
  #view: View | null = null;
  /** Name of the room that is being searched for. */
  #searchedRoom = "";
  #isClosed = false;

  constructor(private readonly api: Api) {
    this.#rooms = new Rooms(api, () => this.#roomsChanged());
    this.#list = new RoomList(this.#rooms, (name) => this.#open(name));
    this.#search.oninput = () => this.#filterSoon();
    const filters = h("div", { class: "filters" }, this.#search, this.#parts);
    const nav = h("nav", { "aria-label": words.rooms }, this.#me, filters, this.#list.element);
    this.element = h("div", { class: "workspace" }, h("h1", { class: "visually-hidden", text: "PinTalk" }), nav, this.#main);
    this.#addParts();
    preventPageScroll(this.#me);
    preventPageScroll(filters);
    for (const event of DOCUMENT_WAKE_EVENTS) document.addEventListener(event, this.#onWake);
    for (const event of WINDOW_WAKE_EVENTS) addEventListener(event, this.#onWake);
    addEventListener("hashchange", this.#followFragment);
    this.#scheduleReread();
    this.#intervals = [
      window.setInterval(() => this.#showPresence(), PRESENCE_CHECK_MS),
      window.setInterval(() => this.#poll(), POLL_MS),
    ];
    this.#showMe();
    this.#put(null);
    this.#filter("false");
    this.#connect();
    HostConversation.sendUnsentMessages(api);
  }

  #addParts(): void {
    const parts: [Part, string][] = [
      ["false", words.open],
      ["true", words.closed],
      ["", words.all],
    ];
    for (const [value, text] of parts) {
      this.#parts.append(h("button", { type: "button", value, text, onclick: () => this.#filter(value) }));
    }
  }

  readonly #onWake = (): void => {
    if (document.hidden) return;
    this.api.suspectConnections();
    this.#rooms.reread();
    this.#rooms.sort();
  };

  /**
   * Opens the room whose name is in the address (`/console/#<name>`), whether it is listed or not. If the room is not loaded, searches for it once.
   * If the search does not find it, it is opened when it appears.
   */
  readonly #followFragment = (): void => {
    const name = location.hash.slice(1);
    if (!name || name === this.#rooms.current) return;
    if (this.#rooms.all.has(name)) this.#open(name);
    else if (this.#searchedRoom !== name) attempt(() => this.#searchRoom(name))();
  };

  async #searchRoom(name: string): Promise<void> {
    this.#searchedRoom = name;
    const isFound = await this.#rooms.find(name).catch((error: unknown) => {
      // The next update of the list repeats the search.
      this.#searchedRoom = "";
      throw error;
    });
    if (this.#isClosed || location.hash.slice(1) !== name) return;
    if (isFound) this.#followFragment();
    else toast(words.noneFound);
  }

  /** Fetches the list periodically. The intervals are random, so that consoles do not send their requests at the same time. */
  #scheduleReread(): void {
    this.#rereadTimer = later(REREAD_MS * (0.75 + Math.random() / 2), () => {
      if (!document.hidden) this.#rooms.reread();
      this.#scheduleReread();
    });
  }

  #poll(): void {
    if (!this.#status?.isOpen && !document.hidden) this.#rooms.refreshSoon();
  }

  close(): void {
    this.#isClosed = true;
    for (const event of DOCUMENT_WAKE_EVENTS) document.removeEventListener(event, this.#onWake);
    for (const event of WINDOW_WAKE_EVENTS) removeEventListener(event, this.#onWake);
    removeEventListener("hashchange", this.#followFragment);
    for (const interval of this.#intervals) clearInterval(interval);
    for (const timer of [this.#rereadTimer, this.#searchTimer, this.#retryTimer]) clearTimeout(timer);
    this.#status?.close();
    this.#view?.close();
    this.#list.close();
    this.#rooms.close();
    document.title = TITLE;
  }

  /** Called when the server is reachable again. */
  recovered(): void {
    this.#rooms.reread();
    this.#status?.retryNow();
    this.#view?.recovered?.();
    if (!this.#view) this.#followFragment();
  }

  /** Opens the status socket. While it is open, guests see that the host is online, and the server reports new messages. */
  #connect(): void {
    clearTimeout(this.#retryTimer);
    this.#status?.close();
    this.#connectedAt = Date.now();
    this.#status = new ReconnectingSocket({
      url: () => socketUrl(base, `ws/status/${this.api.user.uuid}/`, { v: 2, token: this.api.token }),
      opened: () => {
        this.#showPresence();
        this.api.suspectConnections();
        // Messages may have arrived while no socket was open, so the list is fetched again.
        this.#rooms.refreshSoon();
        this.#rooms.reread();
      },
      frame: (frame) => this.#handle(frame),
      waiting: () => {
        this.#showPresence();
        this.api.connection.check();
      },
      ended: (code) => this.#statusEnded(code),
    });
    this.#showPresence();
  }

  #handle({ message, chatroom, preview }: Frame): void {
    if (message === "chat_message" && typeof chatroom === "string") this.#rooms.messageArrived(chatroom, typeof preview === "string" ? preview : "");
  }

  #statusEnded(code: number): void {
    this.#status = null;
    this.#showPresence();
    // Code 4009 means that the host has disabled the online status. The socket remains closed.
    if (code === 4009) return;
    void this.#reconnect(code);
  }

  /** Reconnects the status socket after the server has ended it. After code 4001, renews the access token and backs off only from the second time. */
  async #reconnect(code: number): Promise<void> {
    if (Date.now() - this.#connectedAt > STABLE_MS) this.#refusals = 0;
    try {
      if (code !== 4001 || this.#refusals > 0) await backOff(this.#refusals);
      this.#refusals += 1;
      if (code === 4001) await this.api.refresh();
    } catch (error) {
      // The login has ended, and the sign-in page is shown.
      if (error instanceof ApiError) return;
      throw error;
    }
    if (!this.#isClosed && !this.#status) this.#connect();
  }

  /** Shows whether guests see the host as online. They do while the status socket is open. */
  #showPresence(): void {
    const isOnline = Boolean(this.#status?.isOpen);
    const text = isOnline ? words.online : this.#status ? words.reconnecting : words.offline;
    this.#light.className = isOnline ? "dot on" : "dot";
    if (this.#presence.textContent !== text) this.#presence.textContent = text;
  }

  #showMe(): void {
    const { profileName, profileImage } = this.api.user;
    this.#me.replaceChildren(
      avatar(profileName, profileImage),
      h("div", { class: "who" }, h("b", { dir: "auto", text: profileName }), h("p", {}, this.#light, this.#presence)),
      tool("gear", words.settings, () => this.#openSettings()),
      tool("leave", words.signOut, () => void this.#signOut()),
    );
  }

  async #signOut(): Promise<void> {
    try {
      await this.api.logOut();
    } catch (error) {
      toast(`${words.stillSignedIn} ${reason(error)}`);
    }
  }

  #roomsChanged(): void {
    if (!this.#view) this.#followFragment();
    this.#list.show();
    const { unread } = this.#rooms;
    document.title = unread ? `(${unread}) ${TITLE}` : TITLE;
    this.#view?.show?.();
  }

  #filter(part: Part): void {
    for (const button of this.#parts.querySelectorAll("button")) button.setAttribute("aria-pressed", `${button.value === part}`);
    this.#part = part;
    this.#list.element.scrollTop = 0;
    this.#rooms.filter(this.#search.value.trim(), part);
  }

  #filterSoon(): void {
    clearTimeout(this.#searchTimer);
    this.#searchTimer = later(SEARCH_DELAY_MS, () => this.#filter(this.#part));
  }

  /** Replaces the shown pane. `null` removes it. */
  #put(view: View | null, room = ""): void {
    this.#view?.close();
    this.#view = view;
    this.element.classList.toggle("busy", view !== null);
    this.#rooms.choose(room);
    this.#main.replaceChildren(view?.element ?? h("p", { class: "empty faint", text: words.choose }));
    view?.entered?.();
  }

  #open(name: string): void {
    const room = this.#rooms.all.get(name);
    if (!room) return;
    this.#rooms.choose(name);
    setFragment(name);
    this.#put(new ConversationView(this.api, this.#rooms, { ...room }, () => this.#leave()), name);
    this.#rooms.sort();
  }

  #leave(): void {
    setFragment("");
    this.#put(null);
    this.#list.show();
  }

  #openSettings(): void {
    const on = { changed: () => this.#showMe(), left: () => this.#leave(), presence: () => this.#connect() };
    this.#put(new Settings(this.api, on));
    this.#list.show();
  }
}
