// Handling of swipes on fixed parts of the page.

/** Prevents one-finger swipes on an element from scrolling the page behind it. Scrollable parts of the element can still be scrolled. */
export function preventPageScroll(element: HTMLElement): void {
  // A listener in `ontouchmove` would be passive and could not prevent scrolling.
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
