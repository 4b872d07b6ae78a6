// The script of the tag: checks that the browser is supported and loads the widget. It is written in ES5, so that every browser can parse it: one that
// is not supported gets no widget and no error.
import type { Loading } from "./loading";

(function () {
  /** What the widget needs and cannot do without; `Array.prototype.at` and `aspect-ratio` stand for the syntax (README, "Browsers"). */
  var REQUIRED = ["customElements", "fetch", "WebSocket", "Promise", "URL", "Map", "AbortController", "MutationObserver", "crypto", "CSS"];
  var MAX_ATTEMPTS = 5;

  function isSupported() {
    for (var at = 0; at < REQUIRED.length; at++) if (!(REQUIRED[at]! in window)) return false;
    // @ts-ignore: older browsers have none of these
    return Boolean(document.documentElement.attachShadow && [].at && CSS.supports && CSS.supports("aspect-ratio", "1"));
  }

  /** The tag of this script. A module has no `currentScript`, and may have no tag. */
  function findTag() {
    var name = 'script[src*="/widget.js"]';
    return (document.currentScript || document.querySelector(name + "[data-access-key]") || document.querySelector(name)) as HTMLScriptElement | null;
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
      if (attempt < MAX_ATTEMPTS) setTimeout(load, 1000 * Math.pow(3, attempt), loading, attempt + 1);
    };
    (document.head || document.documentElement).appendChild(script);
  }

  if (!isSupported()) return;
  var tag = findTag();
  var scope = window as unknown as { __pintalk__?: Loading };
  var loading = scope.__pintalk__;
  if (loading) {
    // The tag is there twice, or the page ran its scripts again.
    if (tag) loading.tags.push(tag);
    return;
  }
  // An attribute of the tag, or else of an element, names a server other than that of the script.
  var element = document.querySelector("pintalk-widget[server]");
  var server = (tag && tag.getAttribute("data-server")) || (element && element.getAttribute("server"));
  var address = findAddress(tag);
  var base = address ? address.replace(/[?#].*/, "").replace(/[^/]*$/, "") : server ? server.replace(/\/*$/, "/") : "";
  loading = scope.__pintalk__ = { tags: tag ? [tag] : [], base: base, assets: "{{assets}}", wireOffset: +"{{wire-offset}}", nonce: (tag && tag.nonce) || "" };
  load(loading, 0);
})();
