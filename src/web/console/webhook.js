// The host's webhook: where it goes, what it is told, its secret, a test, and what became of the last events.
import { h } from "../shared/dom.js";
import { clockOf } from "../shared/time.js";
import { ask, attempt, card, check, copyable, field, form, toast, tool } from "./parts.js";
import { spoken } from "./sentences.js";
import { lang, words } from "./words.js";

const EVENTS = ["room.created", "message.created", "room.closed"];
const SHOWN = 8; // of the last events

const shortTime = (iso) => {
  const date = new Date(iso);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? clockOf(date, lang) : date.toLocaleString(lang, { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" });
};

export class WebhookCard {
  constructor(api) {
    Object.assign(this, { api, path: `/api/users/${api.user.id}/webhook/` });
    this.element = h("div");
    this.said = h("p", { role: "status" });
    this.list = h("ul", { class: "deliveries", "aria-label": words.lastEvents });
    this.events = h(
      "div",
      { class: "events" },
      h("header", {}, h("h4", { text: words.lastEvents }), tool("restore", words.refresh, attempt(() => this.showEvents()))),
      this.list,
    );
    attempt(() => this.load())();
  }

  async load() {
    // Who has none is told 404.
    const none = (error) => {
      if (error.status !== 404) throw error;
      return null;
    };
    this.show(await this.api.call("GET", this.path).catch(none));
    await this.showEvents();
  }

  show(hook) {
    const set = hook ?? { url: "", events: EVENTS, enabled: true };
    const button = (text, action, more = "") =>
      h("button", { class: `button ${more}`, type: "button", text, onclick: attempt(action) });
    const more = [button(words.test, () => this.test()), button(words.newSecret, () => this.renew()), button(words.remove, () => this.remove(set.url), "danger")];
    this.say("");
    this.element.replaceChildren(
      card(
        words.webhook,
        set.goneAt ? h("p", { class: "trouble", text: words.gone }) : null,
        form(
          [
            field("url", words.webhookUrl, { value: set.url, hint: words.webhookRule, type: "url", placeholder: "https://" }),
            h("fieldset", {}, h("legend", { text: words.events }), ...EVENTS.map((event) => check(event, words.eventNames[event], set.events.includes(event)))),
            check("enabled", words.enabled, set.enabled),
          ],
          words.save,
          (values) => this.save(values),
          hook ? more : [],
        ),
        set.secret ? copyable(words.secret, set.secret, words.secretOnce) : null,
        set.oldSecretEndsAt ? h("p", { class: "faint", text: words.bothSecrets(shortTime(set.oldSecretEndsAt)) }) : null,
        this.said,
        hook ? this.events : null,
      ),
    );
  }

  async save(values) {
    const events = EVENTS.filter((event) => values[event]);
    this.show(await this.api.call("PUT", this.path, { url: values.url.trim(), events, enabled: Boolean(values.enabled) }));
    toast(words.saved);
    await this.showEvents();
  }

  async test() {
    this.say("…");
    const came = await this.api.call("POST", `${this.path}test/`).finally(() => this.say(""));
    const { delivered, status, milliseconds, problem } = came;
    this.say(delivered ? words.testOk(status, milliseconds) : words.testFailed(problem ? spoken(problem) : status), !delivered);
  }

  say(text, isWrong) {
    this.said.textContent = text;
    this.said.className = isWrong ? "trouble" : "faint";
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

  async showEvents() {
    const { results } = await this.api.call("GET", `${this.path}deliveries/`);
    const row = ({ type, state, attempts, createdAt, dueAt, status, problem }) => {
      const next = state === "waiting" && attempts && dueAt ? words.nextTry(shortTime(dueAt)) : "";
      const said = [words.states[state] ?? state, attempts > 1 ? `×${attempts}` : "", problem ? spoken(problem) : status, next];
      return h(
        "li",
        {},
        h("code", { text: type }),
        h("span", { class: problem ? "wrong" : "faint", text: said.filter(Boolean).join(" · ") }),
        h("time", { class: "faint", datetime: createdAt, text: shortTime(createdAt) }),
      );
    };
    const none = h("li", { class: "faint", text: words.noEvents });
    this.list.replaceChildren(...(results.length ? results.slice(0, SHOWN).map(row) : [none]));
  }
}
