// Fits the page to the visible part of the screen on phones.

const KEYBOARD_PX = 1; // less is rounding

/** Keeps the page above an on-screen keyboard, which browsers lay over it. A page that is zoomed in stays as it is. */
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
      // The field may be below what is left of the page.
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

/** Whether an element or one of its ancestors below `root` has more content than it shows. */
function isScrollable(target: EventTarget | null, root: HTMLElement): boolean {
  let element = target instanceof Element ? target : null;
  while (element && element !== root) {
    if (element.scrollHeight > element.clientHeight && getComputedStyle(element).overflowY === "auto") return true;
    element = element.parentElement;
  }
  return false;
}

/** Keeps one-finger swipes on an element from scrolling the page; a text that is longer than its field still scrolls. */
export function preventPageScroll(element: HTMLElement): void {
  const move = (event: TouchEvent): void => {
    if (event.touches.length === 1 && event.cancelable && !isScrollable(event.target, element)) event.preventDefault();
  };
  element.addEventListener("touchmove", move, { passive: false });
}
