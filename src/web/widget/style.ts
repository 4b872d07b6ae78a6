// Style sheets of the shadow root.
import { h } from "../shared/dom";
import { loading } from "./loading";

/**
 * Adds a style sheet. Uses a constructed style sheet if available (in Safari from 16.4), because the content security policy of the page does not
 * restrict such style sheets.
 */
export function adoptStyle(root: ShadowRoot, text: string): void {
  if ("adoptedStyleSheets" in root && "replaceSync" in CSSStyleSheet.prototype) {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
    root.adoptedStyleSheets = [...root.adoptedStyleSheets, sheet];
  } else root.appendChild(h("style", { text, nonce: loading.nonce || null }));
}
