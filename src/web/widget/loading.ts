/**
 * Data that the loader passes to the widget. It is in a property of `window` whose key is a symbol, because named elements of the page cannot hide
 * such a property.
 */
export interface Loading {
  /** Tags whose script has run. The widget replaces this list with a handler. */
  tags: { push(tag: HTMLScriptElement): unknown };
  /** URL of the server with a trailing slash; empty if it is unknown. */
  base: string;
  /** Path of the files of this release below `base`, without leading and trailing slashes. */
  assets: string;
  /** `wire-offset` of the server, in minutes. */
  wireOffset: number;
  /** Nonce of the tag. The scripts and styles that the widget adds receive it. */
  nonce: string;
}

/** Data that the loader has stored on this page. */
export const loading = (window as unknown as Record<symbol, Loading>)[Symbol.for("pintalk")]!;
