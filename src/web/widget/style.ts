// Style sheets of the shadow root.
import { h } from "../shared/dom";
import { loading } from "./loading";

/** Adds a style sheet. Constructed style sheets are exempt from the page's policy for inline styles; Safari supports them from 16.4. */
export function adoptStyle(root: ShadowRoot, text: string): void {
  if ("adoptedStyleSheets" in root && "replaceSync" in CSSStyleSheet.prototype) {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
    root.adoptedStyleSheets = [...root.adoptedStyleSheets, sheet];
  } else root.appendChild(h("style", { text, nonce: loading.nonce || null }));
}
