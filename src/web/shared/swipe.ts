// Swipes on a part of the page that is fixed.

/** Keeps one-finger swipes on an element from scrolling the page behind it. What scrolls inside the element still does. */
export function preventPageScroll(element: HTMLElement): void {
  // Handler properties are passive on touch, so they cannot prevent it.
  element.addEventListener("touchmove", prevent, { passive: false });
}

function prevent(event: TouchEvent): void {
  if (!event.cancelable || event.touches.length > 1) return;
  for (const target of event.composedPath()) {
    if (target === event.currentTarget) break;
    if (target instanceof HTMLElement && target.scrollHeight > target.clientHeight && /auto|scroll/.test(getComputedStyle(target).overflowY)) return;
  }
  event.preventDefault();
}
