// Style sheets of the shadow root.
import { h } from "../shared/dom";
import { loading } from "./loading";

/**
 * Adds a style sheet. Constructed style sheets are used if available (in Safari from 16.4), because the content security policy of the page for
 * inline styles does not apply to them.
 */
export function adoptStyle(root: ShadowRoot, text: string): void {
  if ("adoptedStyleSheets" in root && "replaceSync" in CSSStyleSheet.prototype) {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
    root.adoptedStyleSheets = [...root.adoptedStyleSheets, sheet];
  } else root.appendChild(h("style", { text, nonce: loading.nonce || null }));
}
