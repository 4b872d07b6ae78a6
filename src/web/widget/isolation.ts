// Hides events in the widget from the page, so that shortcuts, focus traps and "click outside" handlers of the page ignore them.

/**
 * Events that are stopped before any listener of the document runs. The handlers of the widget, which are properties such as `onclick`, are then
 * called directly.
 */
const CAPTURED =
  "keydown keypress keyup beforeinput input textInput compositionstart compositionupdate compositionend click dblclick auxclick contextmenu " +
  "mousedown mouseup mousemove mouseover mouseout pointerdown pointerup pointermove pointerrawupdate pointerover pointerout pointercancel " +
  "touchstart touchend touchcancel wheel focus blur focusin focusout selectstart " +
  "copy cut paste beforecopy beforecut beforepaste drag dragstart dragend dragenter dragover dragleave drop";

/** Events that are stopped at the shadow root. `touchmove` is stopped only here, because the panel has a listener for it. */
const BUBBLING = `${CAPTURED} touchmove`;

const PASSIVE = /^touch|^wheel/;

/** Adds listeners that run before those that the page adds later. `isWidget` returns whether a target is the widget's element. */
export function isolate(isWidget: (target: EventTarget | null) => boolean): void {
  const capture = (event: Event) => {
    // If the widget is in a shadow root of the page, the target of its events is the host of that shadow root.
    const { target } = event;
    if (isWidget(target) || (target instanceof Element && target.shadowRoot)) keepInside(event, isWidget);
  };
  for (const type of CAPTURED.split(" ")) addEventListener(type, capture, { capture: true, passive: PASSIVE.test(type) });
}

/** Stops bubbling events at the shadow root. */
export function contain(root: ShadowRoot): void {
  for (const type of BUBBLING.split(" ")) root.addEventListener(type, (event) => event.stopPropagation(), { passive: true });
}

function keepInside(event: Event, isWidget: (target: EventTarget | null) => boolean): void {
  const path = event.composedPath();
  const end = path.findIndex(isWidget);
  // The target of the event is not in the widget, so the page handles the event.
  if (end < 1) return;
  event.stopImmediatePropagation();
  const wasPrevented = event.defaultPrevented;
  for (let at = 0; at < end; at++) {
    const target = path[at] as unknown as Record<string, unknown>;
    const handler = target[`on${event.type}`];
    if (typeof handler === "function") handler.call(target, event);
    // An event that does not bubble is dispatched only to its target.
    if (!event.bubbles) return;
  }
  if (wasPrevented && event instanceof KeyboardEvent) insertCharacter(event);
}

/** Inserts the character of a pressed key if an earlier listener of the page has treated the key as a shortcut. */
function insertCharacter({ type, key, isComposing, ctrlKey, metaKey }: KeyboardEvent): void {
  if (type === "keydown" && [...key].length === 1 && !isComposing && !ctrlKey && !metaKey) document.execCommand("insertText", false, key);
}
