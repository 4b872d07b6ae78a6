// Delay before another attempt.
import { later } from "./time";

/** Returns whether an event is the `pageshow` event of a page that was loaded, rather than restored from the back/forward cache. */
export const isFirstShow = (event: Event): boolean => event.isTrusted && (event as PageTransitionEvent).persisted === false;

/** Waits for `ms`. Ends early when the network becomes available or the page becomes visible. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      for (const event of ["online", "pageshow"]) removeEventListener(event, shown);
      for (const event of ["resume", "visibilitychange"]) document.removeEventListener(event, shown);
      resolve();
    };
    const shown = (event: Event): void => {
      if (!document.hidden && !isFirstShow(event)) end();
    };
    for (const event of ["online", "pageshow"]) addEventListener(event, shown);
    for (const event of ["resume", "visibilitychange"]) document.addEventListener(event, shown);
    const timer = later(ms, end);
  });
}
