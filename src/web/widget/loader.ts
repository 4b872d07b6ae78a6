// The script of the tag: checks that the browser is supported and loads the widget. It is written in ES5, so that every browser can parse it: one that
// is not supported gets no widget and no error.
import type { Loading } from "./loading";

(function () {
  /** What the widget needs and cannot do without; `Array.prototype.at` and the style `aspect-ratio` stand for the syntax (README, "Browsers"). */
  var REQUIRED = ["customElements", "fetch", "WebSocket", "Promise", "Symbol", "URL", "Map", "AbortController", "MutationObserver", "crypto"];
  var MAX_RETRY_MS = 60000;

  function isSupported() {
    for (var at = 0; at < REQUIRED.length; at++) if (!(REQUIRED[at]! in window)) return false;
    var root = document.documentElement;
    // @ts-ignore: older browsers have neither
    return Boolean(root.attachShadow && [].at && "aspectRatio" in root.style);
  }

  /** The tag of this script. A module has no `currentScript`, and may have no tag. */
  function findTag() {
    var name = 'script[src*="/widget.js"]';
    // An element of the page with the name `currentScript` takes its place.
    var current = document.currentScript instanceof HTMLScriptElement && document.currentScript;
    var found = current || document.querySelector(name + "[data-access-key]") || document.querySelector(name);
    return (found instanceof HTMLScriptElement ? found : null);
  }

  /** The address of this script, which a page can also have imported. */
  function findAddress(tag: HTMLScriptElement | null) {
    if (tag && tag.src) return tag.src;
    var loaded = window.performance && performance.getEntriesByType ? performance.getEntriesByType("resource") : [];
    for (var at = loaded.length - 1; at >= 0; at--) if (/\/widget\.js([?#]|$)/.test(loaded[at]!.name)) return loaded[at]!.name;
    return "";
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
  var tag = findTag();
  var scope = window as unknown as Record<symbol, Loading>;
  var key = Symbol.for("pintalk");
  var loading = scope[key];
  if (loading) {
    // The tag is there twice, or the page ran its scripts again.
    if (tag) loading.tags.push(tag);
    return;
  }
  // An attribute of the tag, or else of an element, names a server other than that of the script.
  var element = document.querySelector("pintalk-widget[server]");
  var server = (tag && tag.getAttribute("data-server")) || (element instanceof HTMLElement && element.getAttribute("server"));
  var address = findAddress(tag);
  var base = address ? address.replace(/[?#].*/, "").replace(/[^/]*$/, "") : server ? server.replace(/\/*$/, "/") : "";
  loading = scope[key] = { tags: tag ? [tag] : [], base: base, assets: "{{assets}}", wireOffset: +"{{wire-offset}}", nonce: (tag && tag.nonce) || "" };
  load(loading, 0);
})();
