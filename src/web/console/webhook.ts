// Card of the host's webhook: URL, events, secret, test, and outcomes of the latest deliveries.
import { h } from "../shared/dom";
import { ApiError, type Api } from "./api";
import { ask, type Values } from "./dialog";
import { deliveriesFrom, noContent, testResultFrom, webhookFrom, type Delivery, type Webhook } from "./model";
import { attempt, card, check, copyable, field, form, loadCard, shortTime, toast, tool } from "./parts";
import { translated } from "./sentences";
import { words } from "./words";

const EVENTS = ["room.created", "message.created", "room.closed"] as const;
const MAX_SHOWN = 8; // maximum number of deliveries that are shown

const timeOf = (iso: string): string => shortTime(iso, { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" });

function deliveryRow({ type, state, attempts, createdAt, dueAt, status, problem }: Delivery): HTMLElement {
  const next = state === "waiting" && attempts && dueAt ? words.nextTry(timeOf(dueAt)) : "";
  const outcome = [words.states[state] ?? state, attempts > 1 ? `×${attempts}` : "", problem ? translated(problem) : status, next];
  return h(
    "li",
    {},
    h("code", { text: type }),
    h("span", { class: problem ? "wrong" : "faint", text: outcome.filter(Boolean).join(" · ") }),
    h("time", { class: "faint", datetime: createdAt, text: timeOf(createdAt) }),
  );
}

export class WebhookCard {
  readonly element = h("div");
  readonly #path: string;
  #isLoaded = false;
  readonly #status = h("p", { role: "status" });
  readonly #list = h("ul", { class: "deliveries", "aria-label": words.lastEvents });
  readonly #deliveries = h(
    "div",
    { class: "events" },
    h("header", {}, h("h4", { text: words.lastEvents }), tool("restore", words.refresh, attempt(() => this.#loadDeliveries()))),
    this.#list,
  );

  constructor(private readonly api: Api) {
    this.#path = `api/users/${api.user.id}/webhook/`;
    this.#loadCard();
  }

  /** Called when the server is reachable again. Loads the card if it could not be loaded before. */
  recovered(): void {
    if (!this.#isLoaded) this.#loadCard();
  }

  #loadCard(): void {
    void loadCard(this.element, words.webhook, () => this.#load());
  }

  async #load(): Promise<void> {
    try {
      this.#show(await this.api.call("GET", this.#path, webhookFrom));
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) throw error;
      this.#show(null);
    }
    attempt(() => this.#loadDeliveries())();
  }

  #show(webhook: Webhook | null): void {
    const url = webhook?.url ?? "";
    const button = (text: string, action: () => Promise<void>, more = ""): HTMLElement =>
      h("button", { class: `button ${more}`, type: "button", text, onclick: attempt(action) });
    const actions = [
      button(words.test, () => this.#test()),
      button(words.newSecret, () => this.#renewSecret()),
      button(words.remove, () => this.#remove(url), "danger"),
    ];
    const boxes = EVENTS.map((event) => check(event, words.eventNames[event], !webhook || webhook.events.includes(event)));
    const fields = [
      field("url", words.webhookUrl, { value: url, hint: words.webhookRule, type: "url", placeholder: "https://" }),
      h("fieldset", {}, h("legend", { text: words.events }), ...boxes),
      check("enabled", words.enabled, webhook?.enabled ?? true),
    ];
    this.#isLoaded = true;
    this.#showStatus("");
    this.element.replaceChildren(
      card(
        words.webhook,
        webhook?.goneAt ? h("p", { class: "trouble", text: words.gone }) : null,
        form(fields, words.save, (values) => this.#save(values), webhook ? actions : []),
        webhook?.secret ? copyable(words.secret, webhook.secret, words.secretOnce) : null,
        webhook?.oldSecretEndsAt ? h("p", { class: "faint", text: words.bothSecrets(timeOf(webhook.oldSecretEndsAt)) }) : null,
        this.#status,
        webhook ? this.#deliveries : null,
      ),
    );
  }

  async #save(values: Values): Promise<void> {
    const events = EVENTS.filter((event) => values[event]);
    const body = { url: (values.url ?? "").trim(), events, enabled: Boolean(values.enabled) };
    this.#show(await this.api.call("PUT", this.#path, webhookFrom, body));
    toast(words.saved);
    await this.#loadDeliveries();
  }

  async #test(): Promise<void> {
    this.#showStatus("…");
    try {
      const { delivered, status, milliseconds, problem } = await this.api.call("POST", `${this.#path}test/`, testResultFrom);
      if (delivered) this.#showStatus(words.testOk(status, milliseconds));
      else this.#showStatus(words.testFailed(problem ? translated(problem) : status), true);
    } catch (error) {
      this.#showStatus("");
      throw error;
    }
  }

  #showStatus(text: string, isWrong = false): void {
    this.#status.textContent = text;
    this.#status.className = isWrong ? "trouble" : "faint";
  }

  async #renewSecret(): Promise<void> {
    const revoke = check("revokeOld", words.revokeOldSecret, false);
    const answer = await ask(words.newSecretAsk, words.newSecretWhy, words.newSecret, revoke);
    if (!answer) return;
    this.#show(await this.api.call("POST", `${this.#path}secret/`, webhookFrom, { revokeOld: Boolean(answer.revokeOld) }));
  }

  async #remove(url: string): Promise<void> {
    if (!(await ask(words.removeAsk, url, words.remove))) return;
    await this.api.call("DELETE", this.#path, noContent);
    this.#show(null);
  }

  async #loadDeliveries(): Promise<void> {
    const { results } = await this.api.call("GET", `${this.#path}deliveries/`, deliveriesFrom);
    const none = h("li", { class: "faint", text: words.noEvents });
    this.#list.replaceChildren(...(results.length ? results.slice(0, MAX_SHOWN).map(deliveryRow) : [none]));
  }
}
