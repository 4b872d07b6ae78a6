// Settings of the host, in cards: profile, service, keys, notifications, webhook, account and language.
import { h } from "../shared/dom";
import { accountCards } from "./account";
import type { Api } from "./api";
import { ask, type Values } from "./dialog";
import { configsFrom, userFrom, type Configs } from "./model";
import { base } from "./page";
import { attempt, avatar, card, check, copyable, field, form, loadCard, toast, toggle, tool, type View } from "./parts";
import { WebhookCard } from "./webhook";
import { chooseLanguage, lang, words } from "./words";

const PICTURES = "image/png,image/jpeg,image/webp,image/gif";

interface SettingsEvents {
  /** Called when the profile has changed. */
  changed(): void;
  /** Called when the host has switched the online status on or off. */
  presence(): void;
  left(): void;
}

export class Settings implements View {
  readonly element: HTMLElement;
  readonly #profile = h("div");
  readonly #keys = h("div");
  readonly #configs = h("div");
  readonly #webhook: WebhookCard;
  #hasConfigs = false;

  constructor(
    private readonly api: Api,
    private readonly on: SettingsEvents,
  ) {
    this.#webhook = new WebhookCard(api);
    this.element = h(
      "section",
      { class: "settings", "aria-label": words.settings },
      h("header", {}, tool("back", words.back, () => on.left()), h("h2", { text: words.settings })),
      h(
        "div",
        { class: "cards" },
        this.#profile,
        this.#service(),
        this.#keys,
        this.#configs,
        this.#webhook.element,
        ...accountCards(api),
        this.#language(),
      ),
    );
    this.#showProfile();
    this.#showKeys();
    this.#loadConfigCard();
  }

  close(): void {}

  /** Called when the server is reachable again. Loads the cards that could not be loaded before. */
  recovered(): void {
    if (!this.#hasConfigs) this.#loadConfigCard();
    this.#webhook.recovered();
  }

  get #path(): string {
    return `api/users/${this.api.user.id}/`;
  }

  async #patch(body: unknown): Promise<void> {
    this.api.user = await this.api.call("PATCH", this.#path, userFrom, body);
    this.on.changed();
    toast(words.saved);
  }

  async #patchProfile(body: unknown): Promise<void> {
    await this.#patch(body);
    this.#showProfile();
  }

  #showProfile(): void {
    const { user } = this.api;
    const fields = form(
      [
        field("profileName", words.profileName, { value: user.profileName }),
        field("description", words.description, { value: user.description, tag: "textarea", rows: 2 }),
      ],
      words.save,
      (values) => this.#patchProfile(values),
    );
    this.#profile.replaceChildren(card(words.profile, this.#picture(), fields));
  }

  #picture(): HTMLElement {
    const { user } = this.api;
    const file = h("input", { type: "file", accept: PICTURES, hidden: true });
    const upload = attempt(async () => {
      const picture = file.files?.[0];
      if (!picture) return;
      const body = new FormData();
      body.append("profileImage", picture);
      await this.#patchProfile(body);
    });
    file.onchange = upload;
    const remove = attempt(() => this.#patchProfile({ profileImage: null }));
    const button = (text: string, onclick: () => void): HTMLElement => h("button", { class: "button", type: "button", text, onclick });
    const buttons = h(
      "div",
      { class: "buttons" },
      button(words.choosePicture, () => file.click()),
      user.profileImage ? button(words.removePicture, remove) : null,
    );
    return h(
      "div",
      { class: "picture" },
      avatar(user.profileName, user.profileImage),
      h("div", {}, buttons, h("small", { class: "faint", text: words.pictureRule })),
      file,
    );
  }

  #service(): HTMLElement {
    const { user } = this.api;
    const domain = { value: user.serviceDomain, hint: words.domainRule, placeholder: "shop.example" };
    const fields = [
      field("serviceName", words.serviceName, { value: user.serviceName }),
      field("serviceExpl", words.serviceExpl, { value: user.serviceExpl }),
      field("serviceDomain", words.serviceDomain, domain),
    ];
    const service = form(fields, words.save, async ({ serviceDomain = "", ...values }: Values) => {
      await this.#patch({ ...values, serviceDomain: serviceDomain.trim() || null });
      // The fields show the saved values, because the server normalises domains.
      for (const input of service.querySelectorAll("input")) {
        const saved = this.api.user[input.name as "serviceName" | "serviceExpl" | "serviceDomain"];
        if (saved !== undefined) input.value = saved ?? "";
      }
    });
    return card(words.service, service);
  }

  #showKeys(): void {
    const { accessKey, secretKey } = this.api.user;
    const script = new URL("widget.js", base).href;
    const embed = `<script src="${script}" data-access-key="${accessKey}" data-secret-key="${secretKey}" async></script>`;
    const rotate = attempt(async () => {
      const answer = await ask(words.rotateAsk, words.rotateWhy, words.rotate, check("revokeOld", words.revokeOld, false));
      if (!answer) return;
      this.api.user = await this.api.call("POST", `${this.#path}keys/`, userFrom, { revokeOld: Boolean(answer.revokeOld) });
      this.#showKeys();
      toast(words.saved);
    });
    this.#keys.replaceChildren(
      card(
        words.keys,
        copyable(words.accessKey, accessKey),
        copyable(words.secretKey, secretKey),
        copyable(words.embed, embed),
        h("div", { class: "buttons" }, h("button", { class: "button", type: "button", text: words.rotate, onclick: rotate })),
      ),
    );
  }

  #loadConfigCard(): void {
    void loadCard(this.#configs, words.notifications, () => this.#loadConfigs());
  }

  /** Loads the configuration with a PATCH without changes, because the API has no GET for it. */
  async #loadConfigs(): Promise<void> {
    const path = `${this.#path}configs/`;
    const configs = await this.api.call("PATCH", path, configsFrom, {});
    const turn =
      (name: keyof Configs) =>
      async (isOn: boolean): Promise<void> => {
        await this.api.call("PATCH", path, configsFrom, { [name]: isOn });
        if (name === "useOnlineStatus") this.on.presence();
      };
    this.#hasConfigs = true;
    this.#configs.replaceChildren(
      card(
        words.notifications,
        toggle(words.presence, configs.useOnlineStatus, turn("useOnlineStatus")),
        toggle(words.mails, configs.emailNotifications, turn("emailNotifications")),
      ),
    );
  }

  #language(): HTMLElement {
    const choice = h("select", { "aria-label": words.language, onchange: () => chooseLanguage(choice.value) });
    for (const [value, text] of [
      ["ko", "한국어"],
      ["en", "English"],
    ]) {
      choice.append(h("option", { value, text, selected: value === lang }));
    }
    return card(words.language, h("div", { class: "field" }, choice));
  }
}
