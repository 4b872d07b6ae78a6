// The desk of a host who is logged in: his rooms on the left, and beside them a conversation or his settings.
import { h } from "../shared/dom.js";
import { Line, socketUrl } from "../shared/line.js";
import { ConversationView } from "./conversation.js";
import { attempt, avatar, toast, tool } from "./parts.js";
import { RoomList } from "./roomlist.js";
import { Rooms } from "./rooms.js";
import { reason } from "./sentences.js";
import { Settings } from "./settings.js";
import { HostTalk } from "./talk.js";
import { words } from "./words.js";

const TYPED_MS = 250; // after the last letter of a search
const REREAD_MS = 60_000; // about how often all that is loaded is read again while somebody looks
const LOOK_MS = 30_000; // how often the list is read while no socket brings news: the host does not show that he is there

export class Desk {
  constructor(api) {
    this.api = api;
    this.rooms = new Rooms(api, () => this.show());
    this.list = new RoomList(this.rooms, (name) => this.open(name));
    this.light = h("i", { class: "dot" });
    this.presence = h("span", { class: "faint" });
    this.me = h("div", { class: "me" });
    this.search = h("input", { type: "search", placeholder: words.search, "aria-label": words.search, oninput: () => this.filterSoon() });
    this.kinds = h("div", { class: "kinds", role: "group", "aria-label": words.rooms });
    this.main = h("main");
    this.nav = h("nav", { "aria-label": words.rooms }, this.me, h("div", { class: "filters" }, this.search, this.kinds), this.list.element);
    this.element = h("div", { class: "desk" }, h("h1", { class: "hear", text: "PinTalk" }), this.nav, this.main);
    for (const [kind, label] of [["false", words.open], ["true", words.closed], ["", words.all]]) {
      this.kinds.append(h("button", { type: "button", value: kind, text: label, onclick: () => this.filter(kind) }));
    }
    this.looked = () => document.hidden || (this.rooms.reread(), this.rooms.sort());
    document.addEventListener("visibilitychange", this.looked);
    addEventListener("focus", this.looked);
    this.rereadLater();
    this.followed = () => this.follow();
    addEventListener("hashchange", this.followed);
    this.showMe();
    this.put(null);
    this.filter("false");
    this.appear();
    HostTalk.deliverLeftovers(api);
  }

  /** A link to `/console/#<name of a room>` opens it, listed or not; one that nobody knows yet, as soon as it is heard of. */
  follow() {
    const name = location.hash.slice(1);
    if (!name || name === this.rooms.current) return;
    if (this.rooms.all.has(name)) this.open(name);
    else if (this.sought !== name) attempt(() => this.seek(name))();
  }

  async seek(name) {
    this.sought = name;
    const isThere = await this.rooms.find(name);
    if (this.rooms.isOver || location.hash.slice(1) !== name) return;
    if (isThere) this.follow();
    else toast(words.noneFound);
  }

  /** By chance, so that not all consoles ask at once. */
  rereadLater() {
    this.rereading = setTimeout(() => {
      if (!document.hidden) this.rooms.reread();
      this.rereadLater();
    }, REREAD_MS * (0.75 + Math.random() / 2));
  }

  close() {
    document.removeEventListener("visibilitychange", this.looked);
    removeEventListener("focus", this.looked);
    removeEventListener("hashchange", this.followed);
    clearTimeout(this.rereading);
    clearTimeout(this.typed);
    clearInterval(this.looking);
    this.status?.close();
    this.view?.close();
    this.rooms.close();
    document.title = "PinTalk console";
  }

  /** Stands at the status socket: guests see the host, and he hears who writes. */
  appear() {
    clearInterval(this.looking);
    this.status?.close();
    this.status = new Line({
      url: () => socketUrl(location.href, `/ws/status/${this.api.user.uuid}/`, { token: this.api.token }),
      opened: () => {
        this.showPresence(true);
        // What came while nobody listened.
        this.rooms.lookSoon();
      },
      frame: (frame) => frame.message === "chat_message" && this.rooms.arrived(frame),
      waiting: () => this.showPresence(false, words.reconnecting),
      ended: (code) => {
        this.showPresence(false);
        if (code === 4001) this.api.refresh().then(() => this.appear(), () => {});
        else this.looking = setInterval(() => document.hidden || this.rooms.lookSoon(), LOOK_MS);
      },
    });
  }

  showPresence(online, text = online ? words.online : words.offline) {
    this.light.className = online ? "dot on" : "dot";
    this.presence.textContent = text;
  }

  showMe() {
    const { user } = this.api;
    this.me.replaceChildren(
      avatar(user.profileName, user.profileImage),
      h("div", { class: "who" }, h("b", { dir: "auto", text: user.profileName }), h("p", {}, this.light, this.presence)),
      tool("gear", words.settings, () => this.openSettings()),
      tool("leave", words.signOut, () => this.signOut()),
    );
  }

  async signOut() {
    try {
      await this.api.logOut();
    } catch (error) {
      toast(`${words.stillSignedIn} ${reason(error)}`);
    }
  }

  show() {
    if (!this.view) this.follow();
    this.list.show();
    const { unread } = this.rooms;
    document.title = unread ? `(${unread}) PinTalk console` : "PinTalk console";
    this.view?.show?.();
  }

  filter(kind) {
    for (const button of this.kinds.children) button.setAttribute("aria-pressed", button.value === kind);
    this.kind = kind;
    this.list.element.scrollTop = 0;
    attempt(() => this.rooms.filter(this.search.value.trim(), kind))();
  }

  filterSoon() {
    clearTimeout(this.typed);
    this.typed = setTimeout(() => this.filter(this.kind), TYPED_MS);
  }

  put(view, isRoom) {
    this.view?.close();
    this.view = view;
    this.element.classList.toggle("busy", Boolean(view));
    if (!isRoom) this.rooms.choose("");
    this.main.replaceChildren(view?.element ?? h("p", { class: "empty faint", text: words.choose }));
    view?.entered?.();
  }

  open(name) {
    const room = this.rooms.all.get(name);
    this.rooms.choose(name);
    history.replaceState(null, "", `#${name}`);
    this.put(new ConversationView(this.api, this.rooms, { ...room }, { left: () => this.leave() }), true);
    this.rooms.sort();
  }

  leave() {
    history.replaceState(null, "", location.pathname);
    this.put(null);
    this.list.show();
  }

  openSettings() {
    this.put(new Settings(this.api, { changed: () => this.showMe(), left: () => this.leave(), presence: () => this.appear() }));
    this.list.show();
  }
}
