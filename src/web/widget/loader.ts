// The script of the tag: checks that the browser is supported and loads the widget. It is written in ES5, so that every browser can parse it: one that
// is not supported gets no widget and no error.
import type { Loading } from "./loading";

(function () {
  /** What the widget needs and cannot do without; `Array.prototype.at` and the style `aspect-ratio` stand for the syntax (README, "Browsers"). */
  var REQUIRED = ["customElements", "fetch", "WebSocket", "Promise", "Symbol", "URL", "AbortController", "MutationObserver", "crypto"];
  var MAX_RETRY_MS = 60000;

  function isSupported() {
    for (var at = 0; at < REQUIRED.length; at++) if (!(REQUIRED[at]! in window)) return false;
    var root = document.documentElement;
    // @ts-ignore: older browsers have neither
    return Boolean(root.attachShadow && [].at && "aspectRatio" in root.style);
  }

  /**
   * The address of this script. A module, which a page can also have imported, has no tag as `currentScript`, and an element of the page with that
   * name takes its place: then the stack of an error begins with it.
   */
  function findAddress(current: unknown) {
    if (current instanceof HTMLScriptElement) return current.src;
    var found = /(https?:\/\/[^\s()]+):\d+:\d+/.exec(new Error().stack || "");
    return found ? found[1]! : "";
  }

  function findTag(address: string) {
    for (var at = 0; at < document.scripts.length; at++) if (document.scripts[at]!.src === address) return document.scripts[at]!;
    return null;
  }

  /** The address as a script's source. Pages that require trusted types have to permit the policy by its name. */
  function trusted(address: string) {
    try {
      // @ts-ignore: not in the DOM library yet
      policy = policy || window.trustedTypes.createPolicy("pintalk", { createScriptURL: String });
      return policy!.createScriptURL(address);
    } catch (error) {
      return address;
    }
  }

  var policy: { createScriptURL(address: string): string } | undefined;

  function load(loading: Loading, attempt: number) {
    var script = document.createElement("script");
    try {
      script.src = trusted(loading.base + loading.assets + "/widget-main.js" + (attempt ? "?" + attempt : ""));
    } catch (error) {
      console.error('PinTalk: this page forbids it. Add "trusted-types pintalk" to its Content-Security-Policy.');
      return;
    }
    script.async = true;
    if (loading.nonce) script.nonce = loading.nonce;
    // A node of another release answers 404 during an upgrade, and a phone has no network for a moment.
    script.onerror = function () {
      var timer = setTimeout(again, Math.min(MAX_RETRY_MS, 1000 * Math.pow(2, attempt)));
      addEventListener("online", again);
      function again() {
        clearTimeout(timer);
        removeEventListener("online", again);
        load(loading, attempt + 1);
      }
    };
    (document.head || document.documentElement).appendChild(script);
  }

  if (!isSupported()) return;
  var address = findAddress(document.currentScript);
  var tag = document.currentScript instanceof HTMLScriptElement ? document.currentScript : findTag(address);
  var scope = window as unknown as Record<symbol, Loading>;
  var key = Symbol.for("pintalk");
  var loading = scope[key];
  if (loading) {
    // The tag is there twice, or the page ran its scripts again.
    if (tag) loading.tags.push(tag);
    return;
  }
  var base = address.replace(/[?#].*/, "").replace(/[^/]*$/, "");
  loading = scope[key] = { tags: tag ? [tag] : [], base: base, assets: "{{assets}}", wireOffset: +"{{wire-offset}}", nonce: (tag && tag.nonce) || "" };
  load(loading, 0);
})();
