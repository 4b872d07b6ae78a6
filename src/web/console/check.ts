// Shows why the page is empty: the browser is too old for the console, or the files of the console cannot be loaded. This file is ES5, so that older
// browsers can parse it.
(function () {
  "use strict";
  var isKorean = /^ko/.test(navigator.language || "");
  var tooOld = isKorean
    ? "이 브라우저에서는 콘솔을 쓸 수 없어요. Safari 15.4, Chrome 92, Firefox 90 또는 그 이후 버전이 필요해요."
    : "The console does not run in this browser. It needs Safari 15.4, Chrome 92, Firefox 90 or a later version.";
  var notLoaded = isKorean
    ? "콘솔을 불러오지 못했어요. 네트워크를 확인하고 페이지를 새로 고쳐 주세요."
    : "The console could not be loaded. Check the network and reload the page.";
  var isSupported =
    "noModule" in document.createElement("script") &&
    "at" in Array.prototype &&
    "replaceAll" in String.prototype &&
    "replaceChildren" in Element.prototype &&
    "fetch" in window &&
    "AbortController" in window &&
    "IntersectionObserver" in window &&
    "ResizeObserver" in window &&
    "URLSearchParams" in window &&
    "queueMicrotask" in window &&
    "CSS" in window;

  function show(text: string): void {
    var container = document.getElementById("app");
    // The console was rendered, so nothing is wrong.
    if (!container || container.firstChild) return;
    var message = document.createElement("p");
    message.setAttribute("role", "alert");
    message.className = "unsupported";
    message.appendChild(document.createTextNode(text));
    container.appendChild(message);
  }

  function whenParsed(text: string): void {
    if (document.readyState !== "loading") show(text);
    else document.addEventListener("DOMContentLoaded", function () { show(text); });
  }

  if (!isSupported) {
    document.documentElement.setAttribute("data-unsupported", "");
    whenParsed(tooOld);
  }
  // The listener captures the events, because error events of elements do not bubble.
  window.addEventListener(
    "error",
    function (event) {
      if (isSupported && event.target && (event.target as Element).tagName === "SCRIPT") whenParsed(notLoaded);
    },
    true
  );
})();
