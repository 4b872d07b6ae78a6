// Fits the panel into the part of the window that an on-screen keyboard leaves visible, and prevents the page behind it from scrolling.
import { preventPageScroll } from "../shared/swipe";

/** Smaller differences are caused by scroll bars, not by a keyboard. */
const MIN_KEYBOARD_PX = 60;

export class Viewport {
  readonly #visual = window.visualViewport;

  /** Calls `resized` when the panel's height has changed. */
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

  /** Sets the covered heights at the top and the bottom of the window as `--pt-top` and `--pt-covered`. */
  update(): void {
    const { panel } = this;
    const visual = this.#visual;
    // If the page is zoomed, the visual viewport is smaller without a keyboard.
    if (!visual || Math.abs(visual.scale - 1) > 0.01) return;
    const below = Math.round(window.innerHeight - visual.height - visual.offsetTop);
    const covered = below < MIN_KEYBOARD_PX ? 0 : below;
    panel.style.setProperty("--pt-top", `${Math.max(0, Math.round(visual.offsetTop))}px`);
    panel.style.setProperty("--pt-covered", `${covered}px`);
    panel.classList.toggle("covered", covered > 0);
  }
}
