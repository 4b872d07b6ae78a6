// The host's webhook: where it goes, what it is told, its secret, a test, and what became of the last events. A server without
// webhooks has no such calls, and then there is no such card.
import { h } from "../shared/dom.js";
import { clockOf } from "../shared/time.js";
import { ask, attempt, card, copyable, field, form, toast } from "./parts.js";
import { lang, words } from "./words.js";

const EVENTS = ["room.created", "message.created", "room.closed"];
const SHOWN = 8; // of the last events

export function webhookCard(api) {
  const place = h("div");
  new WebhookCard(api, place).load().catch(() => {});
  return place;
}

class WebhookCard {
  constructor(api, place) {
    Object.assign(this, { api, place, path: `/api/users/${api.user.id}/webhook/` });
    this.said = h("p", { class: "faint", role: "status" });
    this.events = h("ul", { class: "deliveries", "aria-label": words.lastEvents });
  }

  async load() {
    // It answers whether or not there is a webhook, if there are any at all.
    const { results } = await this.api.call("GET", `${this.path}deliveries/`);
    const hook = await this.api.call("GET", this.path).catch((error) => {
      if (error.status === 404) return null;
      throw error;
    });
    this.show(hook);
    this.list(results);
  }

  show(hook) {
    const set = hook ?? { url: "", events: EVENTS, enabled: true };
    const button = (text, action, more = "") =>
      h("button", { class: `button ${more}`, type: "button", text, onclick: attempt(action) });
    const more = [button(words.test, () => this.test()), button(words.newSecret, () => this.renew()), button(words.remove, () => this.remove(set.url), "danger")];
    this.place.replaceChildren(
      card(
        words.webhook,
        set.goneAt ? h("p", { class: "trouble", text: words.gone }) : null,
        form(
          [
            field("url", words.webhookUrl, { value: set.url, hint: words.webhookRule, type: "url", placeholder: "https://" }),
            h("fieldset", {}, h("legend", { text: words.events }), ...EVENTS.map((event) => check(event, event, set.events.includes(event)))),
            check("enabled", words.enabled, set.enabled),
          ],
          words.save,
          (values) => this.save(values),
          hook ? more : [],
        ),
        set.secret ? copyable(words.secret, set.secret, words.secretOnce) : null,
        this.said,
        this.events,
      ),
    );
  }

  async save(values) {
    const events = EVENTS.filter((event) => values[event]);
    this.show(await this.api.call("PUT", this.path, { url: values.url.trim(), events, enabled: Boolean(values.enabled) }));
    toast(words.saved);
  }

  async test() {
    this.said.textContent = "…";
    const { delivered, status, milliseconds, problem } = await this.api.call("POST", `${this.path}test/`);
    this.said.textContent = delivered ? words.testOk(status, milliseconds) : words.testFailed(problem ?? status);
  }

  async renew() {
    const wanted = await ask(words.newSecretAsk, words.newSecretWhy, words.newSecret, check("revokeOld", words.revokeOldSecret, false));
    if (wanted) this.show(await this.api.call("POST", `${this.path}secret/`, { revokeOld: Boolean(wanted.revokeOld) }));
  }

  async remove(url) {
    if (!(await ask(words.removeAsk, url, words.remove))) return;
    await this.api.call("DELETE", this.path);
    this.show(null);
  }

  list(results) {
    const row = ({ type, state, attempts, createdAt, status, problem }) =>
      h(
        "li",
        {},
        h("code", { text: type }),
        h("span", { class: state === "failed" ? "wrong" : "faint", text: [words.states[state] ?? state, attempts > 1 ? `×${attempts}` : "", problem ?? status ?? ""].filter(Boolean).join(" · ") }),
        h("time", { class: "faint", text: clockOf(new Date(createdAt), lang) }),
      );
    this.events.replaceChildren(...results.slice(0, SHOWN).map(row));
  }
}

function check(name, label, on) {
  const box = h("input", { type: "checkbox", name });
  box.checked = on;
  return h("label", { class: "check" }, box, label);
}
