// On phones, fits the page to the visible part of the screen.

const KEYBOARD_PX = 1; // maximum difference that is a rounding error

/** Reduces the height of the page to the part above an on-screen keyboard. Has no effect while the page is zoomed. */
export function followViewport(): void {
  const viewport = window.visualViewport;
  if (!viewport) return;
  const { style } = document.documentElement;
  const fit = (): void => {
    if (viewport.scale > 1.01) return;
    const isCovered = window.innerHeight - viewport.height > KEYBOARD_PX || viewport.offsetTop > 0;
    if (isCovered) {
      style.setProperty("--visible-height", `${viewport.height}px`);
      style.setProperty("--visible-top", `${viewport.offsetTop}px`);
      // The focused field may be below the visible part of the page.
      document.activeElement?.scrollIntoView({ block: "nearest" });
    } else {
      style.removeProperty("--visible-height");
      style.removeProperty("--visible-top");
    }
  };
  viewport.addEventListener("resize", fit);
  viewport.addEventListener("scroll", fit);
  fit();
}
