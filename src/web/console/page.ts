// Values that the server has inserted into the page, and URLs derived from them.
import { setWireOffset } from "../shared/time";

const { dataset } = document.documentElement;
const DEFAULT_OFFSET_MINUTES = 540;

/** Root URL of the service: the path of `public-url` at the origin of this page. */
export const base = new URL(dataset.base || "/", location.origin);

export const isSignUpOpen = dataset.signUp !== "closed";

/** Returns the path and the query of a call. `path` has no leading slash. */
export function pathOf(path: string): string {
  const url = new URL(path, base);
  return url.pathname + url.search;
}

/** Applies the `wire-offset` of the server to the times of messages. */
export function applyWireOffset(): void {
  const minutes = Number(dataset.wireOffset || DEFAULT_OFFSET_MINUTES);
  setWireOffset(Number.isFinite(minutes) ? minutes : DEFAULT_OFFSET_MINUTES);
}

/** Replaces the fragment in the address of the page. Logs an error instead of throwing it, because browsers limit the rate of such changes. */
export function setFragment(room: string): void {
  try {
    history.replaceState(null, "", room ? `#${room}` : location.pathname);
  } catch (error) {
    console.warn("PinTalk: failed to change the address", error);
  }
}
