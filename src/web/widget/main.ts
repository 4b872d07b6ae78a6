// Defines the element `<pintalk-widget>`. Also adds one to the page if the `<script>` tag that loads the widget contains an
// access key or a secret key.
import { later, setWireOffset } from "../shared/time";
import { PinTalkWidget } from "./element";
import { isolate } from "./isolation";
import { loading } from "./loading";

const NAME = "pintalk-widget";

/** Element that was added for a tag. It is added again when the page has replaced its content. */
let added: HTMLElement | null = null;

/** Adds the element for a tag unless the page already has one. */
function mount(tag: HTMLScriptElement): void {
  // Tag managers drop unknown attributes, so settings are also read from the address of the script.
  const settings = new Map(new URL(tag.src, location.href).searchParams);
  for (const { name, value } of tag.attributes) if (name.startsWith("data-")) settings.set(name.slice("data-".length), value);
  if (!settings.has("access-key") && !settings.has("secret-key")) return;
  const add = () => {
    if (document.getElementsByTagName(NAME).length) return;
    // The page has removed the element and then run the tag again.
    if (added) return place();
    added = document.createElement(NAME);
    for (const [name, value] of settings) added.setAttribute(name, value);
    place();
    watch();
  };
  if (document.body) add();
  else addEventListener("DOMContentLoaded", add);
}

/** Number of removals within a second after which the element is not added again. */
const MAX_REMOVALS = 10;
let removals: number[] = [];

/** Adds the element again if the page has removed it by other means than `remove()`, for example together with its parent. */
function restore(): void {
  if (!(added instanceof PinTalkWidget) || added.isConnected || added.isRemoved) return;
  const now = performance.now();
  removals = removals.filter((at) => now - at < 1000);
  if (removals.length >= MAX_REMOVALS) return;
  removals.push(now);
  place();
}

/** Time after loading during which React may still be hydrating the document. Hydration fails if `<html>` has an unknown child. */
const HYDRATION_MS = 3000;
let isHydrated = false;

/**
 * Places the element beside the body, because pages replace, hide and style their body. Until the page is hydrated, places it at the end of the body.
 */
function place(): void {
  (isHydrated ? document.documentElement : document.body)?.appendChild(added!);
}

function placeAfterHydration(): void {
  later(HYDRATION_MS, () => {
    isHydrated = true;
    if (added?.parentNode === document.body && document.activeElement !== added) place();
  });
}

function watch(): void {
  let [root, body]: (Element | null)[] = [null, null];
  const observer = new MutationObserver(() => {
    if (document.documentElement !== root || document.body !== body) follow();
    restore();
  });
  const follow = () => {
    observer.disconnect();
    [root, body] = [document.documentElement, document.body];
    for (const node of [document, root, body]) if (node) observer.observe(node, { childList: true });
  };
  follow();
  if (document.readyState === "complete") placeAfterHydration();
  else addEventListener("load", placeAfterHydration, { once: true });
}

if (!customElements.get(NAME)) {
  setWireOffset(loading.wireOffset);
  isolate((target) => target instanceof PinTalkWidget);
  customElements.define(NAME, PinTalkWidget);
  const { tags } = loading;
  loading.tags = { push: mount };
  for (const tag of tags as HTMLScriptElement[]) mount(tag);
}
