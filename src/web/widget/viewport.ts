// Fits the panel to the part of the window above an on-screen keyboard, and prevents the page behind the panel from scrolling.
import { preventPageScroll } from "../shared/swipe";

/** Minimum height of a keyboard. Smaller differences are caused by scroll bars. */
const MIN_KEYBOARD_PX = 60;

export class Viewport {
  readonly #visual = window.visualViewport;

  /** `resized` is called when the height of the panel has changed. */
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

  /**
   * Sets `--pt-top` and `--pt-covered` to the heights of the window areas above and below the visual viewport. Has no effect while the page is
   * zoomed.
   */
  update(): void {
    const { panel } = this;
    const visual = this.#visual;
    // If the page is zoomed, the visual viewport is smaller even without a keyboard.
    if (!visual || Math.abs(visual.scale - 1) > 0.01) return;
    const below = Math.round(window.innerHeight - visual.height - visual.offsetTop);
    const covered = below < MIN_KEYBOARD_PX ? 0 : below;
    panel.style.setProperty("--pt-top", `${Math.max(0, Math.round(visual.offsetTop))}px`);
    panel.style.setProperty("--pt-covered", `${covered}px`);
    panel.classList.toggle("covered", covered > 0);
  }
}
