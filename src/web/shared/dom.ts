// Creates elements without parsing HTML, so that the text of users is always shown as text.

const SVG = "http://www.w3.org/2000/svg";

export type Child = Node | string | null | undefined | false;

/**
 * Creates an element. A property whose name begins with `on` becomes a handler, `text` becomes the text, and every other property becomes an
 * attribute. `true` sets an empty attribute; `false`, `null` and `undefined` set none.
 */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Record<string, unknown> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") element.textContent = `${value}`;
    else if (name.startsWith("on")) (element as unknown as Record<string, unknown>)[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, `${value}`);
  }
  for (const child of children) {
    if (child) element.appendChild(typeof child === "string" ? document.createTextNode(child) : child);
  }
  return element;
}

/** Creates an icon from a path in a 24 × 24 view box. */
export function icon(path: string): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.appendChild(line);
  return svg;
}
