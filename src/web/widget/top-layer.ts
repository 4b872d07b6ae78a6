// Pages that transform their root, as off-canvas menus do, hold what is fixed: the widget then moves to the top layer, which nothing holds.

const HELD = /paint|layout|strict|content|transform|perspective|filter/;

/** Whether a style holds or changes what is fixed in an element (CSS Transforms 1, CSS Containment 2, Filter Effects 1). */
function holds(element: Element): boolean {
  const { transform, perspective, filter, clipPath, opacity, contain, willChange, contentVisibility } = getComputedStyle(element);
  const effects = [transform, perspective];
  // Those of the root are for the whole window.
  if (element !== document.documentElement) effects.push(filter, clipPath, opacity === "1" ? "none" : opacity);
  return effects.some((value) => value !== "none") || HELD.test(`${contain} ${willChange}`) || contentVisibility === "auto";
}

/**
 * Keeps `root`, which is fixed, in view, and of its size, when the page transforms or zooms `<html>` and `<body>`. Without popovers, what is transformed takes it along. `changed` is called
 * after their attributes have changed.
 */
export function keepInView(root: HTMLElement, changed: () => void): { update(): void; close(): void } {
  const update = (): void => {
    if (!root.isConnected) return;
    const host = (root.getRootNode() as ShadowRoot).host;
    const around = [document.documentElement, document.body].filter((element) => element?.contains(host));
    let zoom = 1;
    for (const element of around) zoom /= +getComputedStyle(element).zoom || 1;
    root.style.zoom = zoom === 1 ? "" : `${zoom}`;
    if (!("showPopover" in root)) return;
    if (!around.some(holds)) root.popover = null;
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
