// Keeps events of the widget from the page: its shortcuts, focus traps and "click outside" handlers are not for what happens here.

/** Stopped before any listener of the document. The widget's own handlers are properties (`onclick`), which are called instead. */
const CAPTURED =
  "keydown keypress keyup beforeinput input textInput compositionstart compositionupdate compositionend click dblclick auxclick contextmenu " +
  "mousedown mouseup mousemove mouseover mouseout pointerdown pointerup pointermove pointerrawupdate pointerover pointerout pointercancel " +
  "touchstart touchend touchcancel wheel focus blur focusin focusout selectstart " +
  "copy cut paste beforecopy beforecut beforepaste drag dragstart dragend dragenter dragover dragleave drop";

/** Stopped where it leaves the shadow root: the panel has a listener for it. */
const BUBBLING = `${CAPTURED} touchmove`;

const PASSIVE = /^touch|^wheel/;

/** Listens before everything that the page adds from now on. `isWidget`: whether a target is the element. */
export function isolate(isWidget: (target: EventTarget | null) => boolean): void {
  const capture = (event: Event) => {
    // Most events are not the widget's. In the shadow root of a page's own element, it is not their target.
    const { target } = event;
    if (isWidget(target) || (target instanceof Element && target.shadowRoot)) keepInside(event, isWidget);
  };
  for (const type of CAPTURED.split(" ")) addEventListener(type, capture, { capture: true, passive: PASSIVE.test(type) });
}

/** Keeps what bubbles inside a shadow root. */
export function contain(root: ShadowRoot): void {
  for (const type of BUBBLING.split(" ")) root.addEventListener(type, (event) => event.stopPropagation(), { passive: true });
}

function keepInside(event: Event, isWidget: (target: EventTarget | null) => boolean): void {
  const path = event.composedPath();
  const end = path.findIndex(isWidget);
  // Without targets inside it is an event of the element itself: the page's own.
  if (end < 1) return;
  event.stopImmediatePropagation();
  const wasPrevented = event.defaultPrevented;
  for (let at = 0; at < end; at++) {
    const target = path[at] as unknown as Record<string, unknown>;
    const handler = target[`on${event.type}`];
    if (typeof handler === "function") handler.call(target, event);
    // As in any event, what does not bubble reaches its target alone.
    if (!event.bubbles) return;
  }
  if (wasPrevented && event instanceof KeyboardEvent) typeAnyway(event);
}

/** A listener that the page had added before took the key for a shortcut: the character is inserted all the same. */
function typeAnyway({ type, key, isComposing, ctrlKey, metaKey }: KeyboardEvent): void {
  if (type === "keydown" && [...key].length === 1 && !isComposing && !ctrlKey && !metaKey) document.execCommand("insertText", false, key);
}
