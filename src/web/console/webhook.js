// The host's webhook. A server without webhooks has no such call, and then there is no such card.
import { h } from "../shared/dom.js";
import { ask, attempt, card, copyable, field, form, toast } from "./parts.js";
import { words } from "./words.js";

const EVENTS = ["room.created", "message.created", "room.closed"];

export function webhookCard(api) {
  const place = h("div", { hidden: true });
  const path = `/api/users/${api.user.id}/webhook/`;

  function show(hook) {
    const set = hook?.url ? hook : { url: "", events: EVENTS, enabled: true };
    const said = h("p", { class: "faint", role: "status" });
    const check = (name, label, on) => {
      const box = h("input", { type: "checkbox", name });
      box.checked = on;
      return h("label", { class: "check" }, box, label);
    };
    const test = attempt(async () => {
      said.textContent = "…";
      const { status, milliseconds, ms, detail, error } = await api.call("POST", `${path}test/`);
      said.textContent = status ? words.testOk(status, milliseconds ?? ms) : words.testFailed(error ?? detail);
    });
    const remove = attempt(async () => {
      if (!(await ask(words.removeAsk, set.url, words.remove))) return;
      await api.call("DELETE", path);
      show(null);
    });
    const button = (text, onclick, more = "") => h("button", { class: `button ${more}`, type: "button", text, onclick });
    place.replaceChildren(
      card(
        words.webhook,
        form(
          [
            field("url", words.webhookUrl, { value: set.url, hint: words.webhookRule, type: "url", placeholder: "https://" }),
            h("fieldset", {}, h("legend", { text: words.events }), ...EVENTS.map((event) => check(event, event, set.events.includes(event)))),
            check("enabled", words.enabled, set.enabled),
          ],
          words.save,
          async (values) => {
            const events = EVENTS.filter((event) => values[event]);
            const saved = await api.call("PUT", path, { url: values.url.trim(), events, enabled: Boolean(values.enabled) });
            show({ ...set, ...saved });
            toast(words.saved);
          },
          hook?.url ? [button(words.test, test), button(words.remove, remove, "danger")] : [],
        ),
        said,
        set.secret ? copyable(words.secret, set.secret) : null,
      ),
    );
    place.hidden = false;
  }

  api.call("GET", path).then(show, () => {});
  return place;
}
