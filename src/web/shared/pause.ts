// Waiting for another attempt.
import { later } from "./time";

/** Resolves after `ms`, or at once when there is a reason to expect success: the network is back, or the page is shown again. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      for (const event of ["online", "pageshow"]) removeEventListener(event, end);
      for (const event of ["resume", "visibilitychange"]) document.removeEventListener(event, shown);
      resolve();
    };
    const shown = (): void => {
      if (!document.hidden) end();
    };
    for (const event of ["online", "pageshow"]) addEventListener(event, end);
    for (const event of ["resume", "visibilitychange"]) document.addEventListener(event, shown);
    const timer = later(ms, end);
  });
}
