/** Data that the loader passes to the widget, in a window property whose key is a symbol: elements with names cannot hide it. */
export interface Loading {
  /** Tags of the script that have run. The widget replaces this list by a handler. */
  tags: { push(tag: HTMLScriptElement): unknown };
  /** URL of the server, with a final slash; empty if it is unknown. */
  base: string;
  /** Path of this release's files below `base`, without slashes around it. */
  assets: string;
  /** The server's `wire-offset` in minutes. */
  wireOffset: number;
  /** Nonce of the tag, for scripts and styles that the widget adds. */
  nonce: string;
}

/** Data of the loader on this page. */
export const loading = (window as unknown as Record<symbol, Loading>)[Symbol.for("pintalk")]!;
