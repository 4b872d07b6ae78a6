// Shows the widget in the top layer if the page transforms its root, as off-canvas menus do. Otherwise fixed elements would move with the root.

const CONTAINING = /paint|layout|strict|content|transform|perspective|filter/;

/**
 * Returns whether an element is the containing block of its fixed descendants or changes their appearance (CSS Transforms 1, CSS Containment 2,
 * Filter Effects 1).
 */
function containsFixed(element: Element): boolean {
  const { transform, perspective, filter, clipPath, opacity, contain, willChange, contentVisibility } = getComputedStyle(element);
  const effects = [transform, perspective];
  // On the root element, these properties affect the whole window but create no containing block.
  if (element !== document.documentElement) effects.push(filter, clipPath, opacity === "1" ? "none" : opacity);
  return effects.some((value) => value !== "none") || CONTAINING.test(`${contain} ${willChange}`) || contentVisibility === "auto";
}

/**
 * Keeps `root` fixed, visible and at its size while the page transforms or zooms `<html>` or `<body>`. Browsers without popovers move `root` with a
 * transformed page. Calls `changed` when attributes of `<html>` or `<body>` have changed.
 */
export function keepInView(root: HTMLElement, changed: () => void): { update(): void; close(): void } {
  const update = (): void => {
    if (!root.isConnected) return;
    const host = (root.getRootNode() as ShadowRoot).host;
    const ancestors = [document.documentElement, document.body].filter((element) => element?.contains(host));
    let zoom = 1;
    for (const element of ancestors) zoom /= +getComputedStyle(element).zoom || 1;
    root.style.zoom = zoom === 1 ? "" : `${zoom}`;
    if (!("showPopover" in root)) return;
    if (!ancestors.some(containsFixed)) root.popover = null;
    else {
      root.popover = "manual";
      if (!root.matches(":popover-open")) root.showPopover();
    }
  };
  const observer = new MutationObserver(() => {
    update();
    changed();
  });
  for (const element of [document.documentElement, document.body]) observer.observe(element, { attributes: true });
  return { update, close: () => observer.disconnect() };
}
