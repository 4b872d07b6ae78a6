// The demo: a shop with the widget, beside it the console of its host, who is logged in already; and a line that says what has
// just happened between them.
import { h } from "../shared/dom.js";

const config = await (await fetch("/demo/config.json")).json();
const frame = document.querySelector(".console");
const line = document.getElementById("happened");
const pulse = document.querySelector(".pulse");
const node = location.host;
const messages = new Map();

function say(text) {
  line.textContent = text;
  pulse.classList.remove("beat");
  void pulse.offsetWidth; // without this the animation would not begin anew
  pulse.classList.add("beat");
}

const ms = (span) => `${span.toFixed(1)} ms`;

/** A message is told of when both sides have it: whoever wrote it his acknowledgement, the other side the message. */
function told(from, to, { type, seq, ms: span }) {
  const known = messages.get(seq) ?? messages.set(seq, {}).get(seq);
  const now = performance.now();
  if (type === "acknowledged") Object.assign(known, { span, began: now - span, from });
  else known.at = now;
  if (known.span === undefined) return;
  const arrived = known.at ? `, on the ${to}’s screen after ${ms(known.at - known.began)}` : "";
  say(`Node ${node} stored message ${seq} of the ${from} and told him so after ${ms(known.span)}${arrived}`);
}

function hear(side, other, detail) {
  if (detail.type === "acknowledged") told(side, other, detail);
  else if (detail.type === "received") told(other, side, detail);
  else if (detail.type === "opened") {
    // Its messages are counted from one again.
    messages.clear();
    say(`Node ${node} opened room ${detail.room}`);
  } else if (detail.type === "waiting") say(`The ${side} lost the node and comes back in ${ms(detail.ms)}; nothing is lost`);
  else if (detail.type === "connected") say(`The ${side} is connected to node ${node}`);
  else if (detail.type === "ended") say(`The ${side}’s socket ended with ${detail.code}`);
}

const widget = h("pintalk-widget", {
  "access-key": config.accessKey,
  "secret-key": config.secretKey,
  lang: navigator.language,
});
widget.addEventListener("pintalk", ({ detail }) => {
  hear("guest", "host", detail);
  if (detail.type === "opened") frame.contentWindow.location.hash = detail.room;
});
document.querySelector(".shop").append(widget);
document.getElementById("ask").onclick = () => widget.toggle(true);

// The console finds the login in the cookie that comes with this answer.
await fetch("/api/auth/login/", {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ email: config.email, password: config.password }),
});
frame.onload = () => frame.contentWindow.addEventListener("pintalk", ({ detail }) => hear("host", "guest", detail));
frame.src = "/console/";

const sides = document.querySelectorAll(".switch-sides button");
for (const button of sides) {
  button.onclick = () => {
    document.body.dataset.side = button.value;
    for (const other of sides) other.setAttribute("aria-pressed", other === button);
  };
}
