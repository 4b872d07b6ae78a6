/** What the loader passes to the widget, as a property of the window that no element's name can take. */
export interface Loading {
  /** The script's tags, each once it has run. The widget replaces the list by itself. */
  tags: { push(tag: HTMLScriptElement): unknown };
  /** URL of the server, with a final slash; empty if it is unknown. */
  base: string;
  /** Path of this release's files below `base`, without slashes around it. */
  assets: string;
  /** The server's `wire-offset` in minutes. */
  wireOffset: number;
  /** Of the tag, for scripts that the widget loads. */
  nonce: string;
}

/** The loader's part of the page. */
export const loading = (window as unknown as Record<symbol, Loading>)[Symbol.for("pintalk")]!;
