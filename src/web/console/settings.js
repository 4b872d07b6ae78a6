// What a host can change about himself and his service, a card for each matter.
import { h } from "../shared/dom.js";
import { accountCards } from "./account.js";
import { ask, attempt, avatar, card, check, copyable, field, form, toast, toggle, tool } from "./parts.js";
import { WebhookCard } from "./webhook.js";
import { lang, speak, words } from "./words.js";

export class Settings {
  /** `on.changed()` when the profile is another, `on.presence()` when the status socket may come or go, `on.left()`. */
  constructor(api, on) {
    Object.assign(this, { api, on });
    this.profile = h("div");
    this.keys = h("div");
    this.configs = h("div");
    this.element = h(
      "section",
      { class: "settings", "aria-label": words.settings },
      h("header", {}, tool("back", words.back, () => on.left()), h("h2", { text: words.settings })),
      h("div", { class: "cards" }, this.profile, this.service(), this.keys, this.configs, new WebhookCard(api).element, ...accountCards(api), this.language()),
    );
    this.showProfile();
    this.showKeys();
    attempt(() => this.showConfigs())();
  }

  close() {}

  get path() {
    return `/api/users/${this.api.user.id}/`;
  }

  async patch(body) {
    this.api.user = await this.api.call("PATCH", this.path, body);
    this.on.changed();
    toast(words.saved);
  }

  showProfile() {
    const { user } = this.api;
    const file = h("input", { type: "file", accept: "image/png,image/jpeg,image/webp,image/gif", hidden: true });
    const send = attempt(async (picture) => {
      const body = new FormData();
      body.append("profileImage", picture ?? file.files[0]);
      await this.patch(body);
      this.showProfile();
    });
    file.onchange = () => file.files[0] && send();
    const remove = attempt(async () => {
      await this.patch({ profileImage: null });
      this.showProfile();
    });
    this.profile.replaceChildren(
      card(
        words.profile,
        h(
          "div",
          { class: "picture" },
          avatar(user.profileName, user.profileImage),
          h(
            "div",
            {},
            h("div", { class: "buttons" },
              h("button", { class: "button", type: "button", text: words.choosePicture, onclick: () => file.click() }),
              user.profileImage ? h("button", { class: "button", type: "button", text: words.removePicture, onclick: remove }) : null),
            h("small", { class: "faint", text: words.pictureRule }),
          ),
          file,
        ),
        form(
          [
            field("profileName", words.profileName, { value: user.profileName }),
            field("description", words.description, { value: user.description, tag: "textarea", rows: 2 }),
          ],
          words.save,
          async (values) => {
            await this.patch(values);
            this.showProfile();
          },
        ),
      ),
    );
  }

  service() {
    const { user } = this.api;
    const fields = form(
      [
        field("serviceName", words.serviceName, { value: user.serviceName }),
        field("serviceExpl", words.serviceExpl, { value: user.serviceExpl }),
        field("serviceDomain", words.serviceDomain, { value: user.serviceDomain, hint: words.domainRule, placeholder: "shop.example" }),
      ],
      words.save,
      async (values) => {
        await this.patch({ ...values, serviceDomain: values.serviceDomain.trim() || null });
        // Saved is not always what was typed: domains are brought into one form.
        for (const name of Object.keys(values)) fields.elements[name].value = this.api.user[name] ?? "";
      },
    );
    return card(words.service, fields);
  }

  showKeys() {
    const { user } = this.api;
    const embed = `<script src="${location.origin}/widget.js" data-access-key="${user.accessKey}" data-secret-key="${user.secretKey}" async></script>`;
    const rotate = attempt(async () => {
      const wanted = await ask(words.rotateAsk, words.rotateWhy, words.rotate, check("revokeOld", words.revokeOld, false));
      if (!wanted) return;
      this.api.user = await this.api.call("POST", `${this.path}keys/`, { revokeOld: Boolean(wanted.revokeOld) });
      this.showKeys();
      toast(words.saved);
    });
    this.keys.replaceChildren(
      card(
        words.keys,
        copyable(words.accessKey, user.accessKey),
        copyable(words.secretKey, user.secretKey),
        copyable(words.embed, embed),
        h("div", { class: "buttons" }, h("button", { class: "button", type: "button", text: words.rotate, onclick: rotate })),
      ),
    );
  }

  /** A change of nothing tells how it is. */
  async showConfigs() {
    const path = `${this.path}configs/`;
    const configs = await this.api.call("PATCH", path, {});
    const turn = (name) => async (on) => {
      await this.api.call("PATCH", path, { [name]: on });
      if (name === "useOnlineStatus") this.on.presence();
    };
    this.configs.replaceChildren(
      card(
        words.notifications,
        toggle(words.presence, configs.useOnlineStatus, turn("useOnlineStatus")),
        toggle(words.mails, configs.emailNotifications, turn("emailNotifications")),
      ),
    );
  }

  language() {
    const choice = h("select", { "aria-label": words.language, onchange: () => speak(choice.value) });
    for (const [value, name] of [["ko", "한국어"], ["en", "English"]]) {
      choice.append(h("option", { value, text: name, selected: value === lang }));
    }
    return card(words.language, h("div", { class: "field" }, choice));
  }
}
