// Keeps the panel in the part of the window that an on-screen keyboard leaves, and the page behind it in place.
import { preventPageScroll } from "../shared/swipe";

/** What covers less is a scroll bar. */
const MIN_KEYBOARD_PX = 60;

export class Viewport {
  readonly #visual = window.visualViewport;

  /** `resized`: the panel has another height. */
  constructor(
    private readonly panel: HTMLElement,
    private readonly resized: () => void,
  ) {
    this.#visual?.addEventListener("resize", this.#onChange);
    this.#visual?.addEventListener("scroll", this.#onChange);
    preventPageScroll(panel);
  }

  close(): void {
    this.#visual?.removeEventListener("resize", this.#onChange);
    this.#visual?.removeEventListener("scroll", this.#onChange);
  }

  readonly #onChange = (): void => {
    this.update();
    this.resized();
  };

  /** Sets how much of the window is covered, above and below, as `--pt-top` and `--pt-covered`. */
  update(): void {
    const { panel } = this;
    const visual = this.#visual;
    // A page that is zoomed, by the guest or because it is wider than the screen, has another viewport without a keyboard.
    if (!visual || Math.abs(visual.scale - 1) > 0.01) return;
    const below = Math.round(window.innerHeight - visual.height - visual.offsetTop);
    const covered = below < MIN_KEYBOARD_PX ? 0 : below;
    panel.style.setProperty("--pt-top", `${Math.max(0, Math.round(visual.offsetTop))}px`);
    panel.style.setProperty("--pt-covered", `${covered}px`);
    panel.classList.toggle("covered", covered > 0);
  }
}
