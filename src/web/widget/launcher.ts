// Button that opens the panel. It shows the number of unread messages and whether the host is online.
import { h, icon } from "../shared/dom";
import type { Words } from "./words";

const BUBBLE = "M21 11.5a8.4 8.4 0 0 1-12.2 7.5L3 21l2-5.8A8.4 8.4 0 1 1 21 11.5z";
const DOWN = "M6 9l6 6 6-6";

export class Launcher {
  readonly badge = h("span", { class: "badge", hidden: true });
  readonly element: HTMLButtonElement;
  readonly #dot = h("span", { class: "dot", hidden: true });

  constructor(
    private readonly words: Words,
    onclick: () => void,
    /** Called when the pointer enters the button, so that the panel can be loaded in advance. */
    onapproach: () => void,
  ) {
    this.element = h("button", { class: "launcher", type: "button", onclick, onpointerenter: onapproach }, icon(BUBBLE), this.badge, this.#dot);
  }

  show(isOpen: boolean, unread: number): void {
    const { element, badge, words } = this;
    if (element.getAttribute("aria-expanded") !== `${isOpen}`) {
      element.setAttribute("aria-expanded", `${isOpen}`);
      element.firstChild?.replaceWith(icon(isOpen ? DOWN : BUBBLE));
    }
    badge.hidden = !unread;
    badge.textContent = unread > 99 ? "99+" : `${unread}`;
    element.setAttribute("aria-label", isOpen ? words.close : unread ? `${words.open}, ${words.unread(unread)}` : words.open);
  }

  /** Shows whether the host is online. `null` means that the host has disabled the online status. */
  showPresence(online: boolean | null): void {
    this.#dot.hidden = online === null;
    this.#dot.className = online ? "dot on" : "dot";
  }
}
