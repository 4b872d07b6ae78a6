// Script that the `<script>` tag of a page loads. It loads the widget if the browser is supported. It is ES5, so that any browser can parse it.
// Unsupported browsers show no widget and report no error.
import type { Loading } from "./loading";

(function () {
  /**
   * Required features. In addition, `Array.prototype.at` and the style `aspect-ratio` are checked below. They indicate that the browser supports the
   * syntax (README, "Browsers").
   */
  var REQUIRED = ["customElements", "fetch", "WebSocket", "Promise", "Symbol", "URL", "AbortController", "MutationObserver", "crypto"];
  var MAX_RETRY_MS = 60000;

  function isSupported() {
    for (var at = 0; at < REQUIRED.length; at++) if (!(REQUIRED[at]! in window)) return false;
    var root = document.documentElement;
    // @ts-ignore: older browsers have neither
    return Boolean(root.attachShadow && [].at && "aspectRatio" in root.style);
  }

  /**
   * Returns the address of this script. `currentScript` is not set in modules, and an element of the page with that name can hide it. In these cases,
   * the address is taken from the stack of an error.
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

  /** Returns an address as a trusted script URL. A page that requires trusted types must permit the policy `pintalk`. */
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
      console.error('PinTalk: the Content-Security-Policy blocks the widget. Add "trusted-types pintalk" to it.');
      return;
    }
    script.async = true;
    if (loading.nonce) script.nonce = loading.nonce;
    // The load is retried: during an upgrade, a node of another release answers 404, and phones often lose the network briefly.
    script.onerror = function () {
      var timer = setTimeout(retry, Math.min(MAX_RETRY_MS, 1000 * Math.pow(2, attempt)));
      addEventListener("online", retry);
      function retry() {
        clearTimeout(timer);
        removeEventListener("online", retry);
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
    // The page contains the tag twice or has run its scripts again.
    if (tag) loading.tags.push(tag);
    return;
  }
  var base = address.replace(/[?#].*/, "").replace(/[^/]*$/, "");
  loading = scope[key] = { tags: tag ? [tag] : [], base: base, assets: "{{assets}}", wireOffset: +"{{wire-offset}}", nonce: (tag && tag.nonce) || "" };
  load(loading, 0);
})();
