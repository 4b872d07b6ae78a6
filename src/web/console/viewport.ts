// Fits the page to the visible part of the screen on phones.

const KEYBOARD_PX = 1; // smaller differences are rounding errors

/** Reduces the height of the page to the part above an on-screen keyboard. Does nothing while the page is zoomed. */
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
      // The field may be below the visible part of the page.
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
