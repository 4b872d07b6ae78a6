// Defines the element `<pintalk-widget>` and adds it where the script's tag has keys.
import { later, setWireOffset } from "../shared/time";
import { PinTalkWidget } from "./element";
import { isolate } from "./isolation";
import { loading } from "./loading";

const NAME = "pintalk-widget";

/** The element that a tag has added, which stays when a page replaces its content. */
let added: HTMLElement | null = null;

/** Adds the element that a tag asks for, unless the page has one. */
function mount(tag: HTMLScriptElement): void {
  // Tag managers drop attributes that they do not know: settings are read from the address as well.
  const settings = new Map(new URL(tag.src, location.href).searchParams);
  for (const { name, value } of tag.attributes) if (name.startsWith("data-")) settings.set(name.slice("data-".length), value);
  if (!settings.has("access-key") && !settings.has("secret-key")) return;
  const add = () => {
    if (document.getElementsByTagName(NAME).length) return;
    // Removed by the page, which wants it again now.
    if (added) return place();
    added = document.createElement(NAME);
    for (const [name, value] of settings) added.setAttribute(name, value);
    place();
    watch();
  };
  if (document.body) add();
  else addEventListener("DOMContentLoaded", add);
}

/** A page that removes the element this often within a second does not want it. */
const MAX_REMOVALS = 10;
let removals: number[] = [];

/** Adds the element again when the page has replaced what it was in. */
function keep(): void {
  if (!(added instanceof PinTalkWidget) || added.isConnected || added.isRemoved) return;
  const now = performance.now();
  removals = removals.filter((at) => now - at < 1000);
  if (removals.length >= MAX_REMOVALS) return;
  removals.push(now);
  place();
}

/** React hydrates a whole document only if nothing unknown is in `<html>`; by then it has. */
const HYDRATION_MS = 3000;
let isHydrated = false;

/** Beside the body: pages replace their body, hide what is in it, and style it. At the end of the body until the page is hydrated. */
function place(): void {
  (isHydrated ? document.documentElement : document.body)?.appendChild(added!);
}

function settle(): void {
  later(HYDRATION_MS, () => {
    isHydrated = true;
    if (added?.parentNode === document.body && document.activeElement !== added) place();
  });
}

function watch(): void {
  let [root, body]: (Element | null)[] = [null, null];
  const observer = new MutationObserver(() => {
    if (document.documentElement !== root || document.body !== body) follow();
    keep();
  });
  const follow = () => {
    observer.disconnect();
    [root, body] = [document.documentElement, document.body];
    for (const node of [document, root, body]) if (node) observer.observe(node, { childList: true });
  };
  follow();
  if (document.readyState === "complete") settle();
  else addEventListener("load", settle, { once: true });
}

if (!customElements.get(NAME)) {
  setWireOffset(loading.wireOffset);
  isolate((target) => target instanceof PinTalkWidget);
  customElements.define(NAME, PinTalkWidget);
  const { tags } = loading;
  loading.tags = { push: mount };
  for (const tag of tags as HTMLScriptElement[]) mount(tag);
}
