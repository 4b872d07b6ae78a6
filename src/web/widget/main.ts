// Defines the element `<pintalk-widget>` and adds it where the script's tag has keys.
import { setWireOffset } from "../shared/time";
import { PinTalkWidget } from "./element";
import { isolate } from "./isolation";
import { loading } from "./loading";

const NAME = "pintalk-widget";

/** The element that a tag has added, which survives whatever a page does to its content. */
let added: HTMLElement | null = null;

/** Adds the element that a tag asks for, unless the page has one. */
function mount(tag: HTMLScriptElement): void {
  // Tag managers drop attributes that they do not know: keys are read from the address as well.
  const settings: Record<string, string | undefined> = { ...tag.dataset };
  for (const [name, value] of new URL(tag.src, location.href).searchParams) settings[name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase())] ??= value;
  if ((settings.accessKey ?? settings.secretKey) === undefined) return;
  const add = () => {
    if (added || document.querySelector(NAME)) return;
    added = document.createElement(NAME);
    for (const [name, value] of Object.entries(settings)) {
      added.setAttribute(name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`), value ?? "");
    }
    keep();
    watch();
  };
  if (document.body) add();
  else addEventListener("DOMContentLoaded", add);
}

/** Beside the body: pages replace their body, hide what is in it, and style it. */
function keep(): void {
  if (added instanceof PinTalkWidget && !added.isConnected && !added.isRemoved) document.documentElement?.append(added);
}

function watch(): void {
  let root: Element | null = null;
  const observer = new MutationObserver(() => {
    if (document.documentElement !== root) follow();
    keep();
  });
  const follow = () => {
    observer.disconnect();
    observer.observe(document, { childList: true });
    root = document.documentElement;
    if (root) observer.observe(root, { childList: true });
  };
  follow();
}

if (!customElements.get(NAME)) {
  setWireOffset(loading.wireOffset);
  isolate((target) => target instanceof PinTalkWidget);
  customElements.define(NAME, PinTalkWidget);
  const { tags } = loading;
  loading.tags = { push: mount };
  for (const tag of tags as HTMLScriptElement[]) mount(tag);
}
