// The list of rooms: of a thousand, only those that are in sight are elements.
import { h, icon } from "../shared/dom.js";
import { clockOf } from "../shared/time.js";
import { ICONS } from "./icons.js";
import { lang, words } from "./words.js";

const ROW_PX = 68;
const AROUND = 6; // rows above and below what is in sight
const SOON = 20; // rows from the end at which more are fetched

const shortTime = (iso) => {
  const date = new Date(iso);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? clockOf(date, lang) : date.toLocaleDateString(lang, { month: "short", day: "numeric" });
};

export class RoomList {
  constructor(rooms, choose) {
    Object.assign(this, { rooms, choose, shown: new Map() });
    this.list = h("ul", { "aria-label": words.rooms });
    this.empty = h("p", { class: "empty faint" });
    this.element = h("div", { class: "rooms", onscroll: () => this.show() }, this.list, this.empty);
    new ResizeObserver(() => this.show()).observe(this.element);
  }

  show() {
    const { rooms, list, element } = this;
    const all = rooms.list;
    list.style.height = `${all.length * ROW_PX}px`;
    this.empty.hidden = all.length > 0;
    this.empty.textContent = rooms.search ? words.noneFound : words.none[rooms.isClosed];
    const first = Math.max(0, Math.floor(element.scrollTop / ROW_PX) - AROUND);
    const last = Math.min(all.length, Math.ceil((element.scrollTop + element.clientHeight) / ROW_PX) + AROUND);
    const used = new Map();
    for (let at = first; at < last; at++) {
      const room = all[at];
      const isCurrent = room.name === rooms.current;
      const look = JSON.stringify([room, isCurrent, rooms.count]);
      const known = this.shown.get(room.name);
      const row = known?.look === look ? known.row : this.make(room, isCurrent, known?.row);
      row.style.top = `${at * ROW_PX}px`;
      row.setAttribute("aria-posinset", at + 1);
      row.setAttribute("aria-setsize", all.length);
      used.set(room.name, { look, row });
    }
    for (const [name, { row }] of this.shown) if (!used.has(name)) row.remove();
    // Whoever goes through them with a keyboard, or listens, meets them in the order in which they are seen.
    const focused = document.activeElement;
    let next = list.firstChild;
    for (const { row } of used.values()) {
      if (row === next) next = next.nextSibling;
      else list.insertBefore(row, next);
    }
    if (list.contains(focused)) focused.focus({ preventScroll: true });
    this.shown = used;
    if (last > all.length - SOON) rooms.more().catch(() => {});
  }

  count(text) {
    return h("span", { class: "count" }, h("span", { "aria-hidden": "true", text }), h("span", { class: "hear", text: words.unread(text) }));
  }

  /** A row; in place of the one that showed this room before, so that the focus stays. */
  make(room, isCurrent, before) {
    const button = before?.firstChild ?? h("button", { type: "button" });
    button.onclick = () => this.choose(room.name);
    button.className = room.isClosed ? "room closed" : "room";
    button.setAttribute("aria-current", isCurrent);
    button.replaceChildren(
      h("span", { class: "face", "aria-hidden": "true" }, [...room.guest.split(" ").at(-1)][0], h("i", { class: room.guestOnline ? "dot on" : "dot" })),
      h("b", { dir: "auto", text: room.guest }),
      h("time", { text: shortTime(room.latestMsgAt ?? room.createdAt) }),
      h("span", { class: "latest", dir: "auto", text: room.latestMsg ?? (room.isClosed ? words.closed : words.nothingSaid) }),
      h(
        "span",
        { class: "marks" },
        room.isFixed ? h("span", { class: "pinned", role: "img", "aria-label": words.pinned }, icon(ICONS.pin)) : null,
        room.unread ? this.count(room.unread > 99 ? "99+" : room.unread) : null,
      ),
    );
    return before ?? h("li", {}, button);
  }
}
