// The demo: a shop with the widget, the console of its host, and a status line that shows the latest event. The host is logged in to the console.
import type { ConversationEvent } from "../shared/conversation";
import { fetchWithTimeout } from "../shared/fetch";
import { encode } from "../shared/json";
import type { PinTalkWidget } from "../widget/element";

type Side = "guest" | "host";

interface Delivery {
  from?: Side;
  /** Time at which the message was sent, and time until the acknowledgement, in milliseconds. */
  began?: number;
  span?: number;
  /** Time at which the other side received the message, in milliseconds. */
  receivedAt?: number;
}

const query = <T extends Element>(selector: string): T => {
  const found = document.querySelector<T>(selector);
  if (!found) throw new Error(`the page has no ${selector}`);
  return found;
};

const TIMEOUT_MS = 15_000;

interface Config {
  accessKey: string;
  secretKey: string;
  email: string;
  password: string;
}

const config = await fetchWithTimeout("/demo/config.json", {}, TIMEOUT_MS, async (response) => (await response.json()) as Config);
const frame = query<HTMLIFrameElement>(".console");
const line = query<HTMLElement>("#happened");
const pulse = query<HTMLElement>(".pulse");
const node = location.host;
const deliveries = new Map<number, Delivery>();

function report(text: string): void {
  line.textContent = text;
  pulse.classList.remove("beat");
  void pulse.offsetWidth; // This access to the layout restarts the animation.
  pulse.classList.add("beat");
}

const ms = (span: number): string => `${span.toFixed(1)} ms`;

/** Shows a message in the status line when it is acknowledged. The other side may receive it before or after the acknowledgement. */
function deliver(from: Side, seq: number, change: Delivery): void {
  const delivery = { ...deliveries.get(seq), ...change };
  deliveries.set(seq, delivery);
  const { span, began, receivedAt } = delivery;
  if (span === undefined || began === undefined) return;
  const to = from === "guest" ? "host" : "guest";
  const arrived = receivedAt ? `, on the ${to}’s screen after ${ms(receivedAt - began)}` : "";
  report(`Node ${node} stored message ${seq} of the ${from} and acknowledged it after ${ms(span)}${arrived}`);
}

function handle(side: Side, detail: ConversationEvent): void {
  const other = side === "guest" ? "host" : "guest";
  const now = performance.now();
  if (detail.type === "acknowledged") deliver(side, detail.seq, { from: side, span: detail.ms, began: now - detail.ms });
  else if (detail.type === "received") deliver(other, detail.seq, { receivedAt: now });
  else if (detail.type === "opened") {
    // The sequence numbers of each room start at 1, so the deliveries of the previous room are removed.
    deliveries.clear();
    report(`Node ${node} opened room ${detail.room}`);
  } else if (detail.type === "waiting") report(`The ${side} lost the node and reconnects in ${ms(detail.ms)}; nothing is lost`);
  else if (detail.type === "connected") report(`The ${side} is connected to node ${node}`);
  else report(`The ${side}’s socket ended with ${detail.code}`);
}

const detailOf = (event: Event): ConversationEvent => (event as CustomEvent<ConversationEvent>).detail;

await customElements.whenDefined("pintalk-widget");
const widget = document.createElement("pintalk-widget") as PinTalkWidget;
widget.setAttribute("access-key", config.accessKey);
widget.setAttribute("secret-key", config.secretKey);
widget.setAttribute("lang", navigator.language);
widget.addEventListener("pintalk", (event) => {
  const detail = detailOf(event);
  handle("guest", detail);
  if (detail.type === "opened" && frame.contentWindow) frame.contentWindow.location.hash = detail.room;
});
query(".shop").append(widget);
query<HTMLElement>("#ask").onclick = () => widget.toggle(true);

// The response sets the cookie with which the console resumes the login.
const login = { method: "POST", headers: { "Content-Type": "application/json" }, body: encode({ email: config.email, password: config.password }) };
await fetchWithTimeout("/api/auth/login/", login, TIMEOUT_MS, (response) => response.text());
frame.onload = () => frame.contentWindow?.addEventListener("pintalk", (event) => handle("host", detailOf(event)));
frame.src = "/console/";

const sides = document.querySelectorAll<HTMLButtonElement>(".switch-sides button");
for (const button of sides) {
  button.onclick = () => {
    document.body.dataset.side = button.value;
    for (const other of sides) other.setAttribute("aria-pressed", `${other === button}`);
  };
}
