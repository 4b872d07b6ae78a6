// List of rooms. Only the rows in or near the visible part are rendered, so that the cost does not depend on the number of rooms.
import { h, icon } from "../shared/dom";
import { ICONS } from "./icons";
import type { Room } from "./model";
import { initial, shortTime } from "./parts";
import type { Rooms } from "./rooms";
import { words } from "./words";

const ROW_PX = 68;
const MARGIN = 6; // number of rows that are rendered above and below the visible part
const PRELOAD = 20; // number of remaining rows below the rendered ones at which the next page is loaded
const MAX_COUNT = 99;

interface Row {
  /** Serialised content, which is compared to detect changes. */
  key: string;
  element: HTMLLIElement;
  button: HTMLButtonElement;
}

function count(unread: number): HTMLElement {
  const text = unread > MAX_COUNT ? `${MAX_COUNT}+` : `${unread}`;
  return h("span", { class: "count" }, h("span", { "aria-hidden": "true", text }), h("span", { class: "visually-hidden", text: words.unread(text) }));
}

export class RoomList {
  readonly element: HTMLElement;
  readonly #list = h("ul", { "aria-label": words.rooms });
  readonly #empty = h("p", { class: "empty faint" });
  readonly #resizes: ResizeObserver;
  #rows = new Map<string, Row>();

  /** `choose` is called with the name of a room when its row is clicked. */
  constructor(
    private readonly rooms: Rooms,
    private readonly choose: (name: string) => void,
  ) {
    this.element = h("div", { class: "rooms", onscroll: () => this.show() }, this.#list, this.#empty);
    this.#resizes = new ResizeObserver(() => this.show());
    this.#resizes.observe(this.element);
  }

  close(): void {
    this.#resizes.disconnect();
  }

  show(): void {
    const { rooms, element } = this;
    const all = rooms.list;
    this.#list.style.height = `${all.length * ROW_PX}px`;
    this.#empty.hidden = all.length > 0;
    this.#empty.textContent = rooms.search ? words.noneFound : words.none[rooms.isClosed];
    const first = Math.max(0, Math.floor(element.scrollTop / ROW_PX) - MARGIN);
    const last = Math.min(all.length, Math.ceil((element.scrollTop + element.clientHeight) / ROW_PX) + MARGIN);
    const used = new Map<string, Row>();
    all.slice(first, last).forEach((room, offset) => {
      const row = this.#rowFor(room);
      const at = first + offset;
      row.element.style.top = `${at * ROW_PX}px`;
      row.element.setAttribute("aria-posinset", `${at + 1}`);
      row.element.setAttribute("aria-setsize", `${all.length}`);
      used.set(room.name, row);
    });
    for (const [name, row] of this.#rows) if (!used.has(name)) row.element.remove();
    this.#arrange(used);
    this.#rows = used;
    if (last > all.length - PRELOAD) rooms.loadMore();
  }

  /** Puts the elements into the order of the rows, because keyboards and screen readers use the order of the document. */
  #arrange(rows: Map<string, Row>): void {
    const focused = document.activeElement;
    let next = this.#list.firstChild;
    for (const { element } of rows.values()) {
      if (element === next) next = next.nextSibling;
      else this.#list.insertBefore(element, next);
    }
    if (focused instanceof HTMLElement && this.#list.contains(focused)) focused.focus({ preventScroll: true });
  }

  /** Returns the row of a room. Updates an existing row in place, which preserves the focus. */
  #rowFor(room: Room): Row {
    const isCurrent = room.name === this.rooms.current;
    const today = new Date().toDateString();
    const key = JSON.stringify([room, isCurrent, today]);
    const known = this.#rows.get(room.name);
    if (known?.key === key) return known;
    const button = known?.button ?? h("button", { type: "button", onclick: () => this.choose(room.name) });
    const row = { key, button, element: known?.element ?? h("li", {}, button) };
    this.#fill(button, room, isCurrent);
    return row;
  }

  #fill(button: HTMLButtonElement, room: Room, isCurrent: boolean): void {
    const marks = [
      room.isFixed ? h("span", { class: "pinned", role: "img", "aria-label": words.pinned }, icon(ICONS.pin)) : null,
      room.unread > 0 ? count(room.unread) : null,
    ].filter((mark): mark is HTMLElement => mark !== null);
    const face = h("span", { class: "face", "aria-hidden": "true" }, initial(room.guest.split(" ").at(-1) ?? ""));
    face.append(h("i", { class: room.guestOnline ? "dot on" : "dot" }));
    button.className = ["room", room.isClosed && "closed", !marks.length && "unmarked"].filter(Boolean).join(" ");
    button.setAttribute("aria-current", `${isCurrent}`);
    button.replaceChildren(
      face,
      h("b", { dir: "auto", text: room.guest }),
      h("time", { text: shortTime(room.latestMsgAt ?? room.createdAt, { month: "short", day: "numeric" }) }),
      h("span", { class: "latest", dir: "auto", text: room.latestMsg ?? (room.isClosed ? words.closed : words.noMessages) }),
      h("span", { class: "marks" }, ...marks),
    );
  }
}
