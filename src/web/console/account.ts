// Account cards: password change and deactivation.
import { h } from "../shared/dom";
import type { Api } from "./api";
import { ask } from "./dialog";
import { acceptedFrom } from "./model";
import { card, field, form, toast, usernameFor } from "./parts";
import { words } from "./words";

export function accountCards(api: Api): HTMLElement[] {
  const { email } = api.user;
  const password = (name: string, label: string, autocomplete: string, hint?: string): HTMLElement =>
    field(name, label, { type: "password", autocomplete, hint });
  const change = form(
    [
      usernameFor(email),
      password("currentPassword", words.currentPassword, "current-password"),
      password("newPassword", words.newPassword, "new-password", words.passwordRule),
    ],
    words.changePassword,
    async (values) => {
      await api.call("POST", "api/auth/password-change/", acceptedFrom, values);
      change.reset();
      toast(words.passwordChanged);
    },
  );
  const leave = form([usernameFor(email), password("password", words.password, "current-password")], words.leaveAccount, async (values) => {
    if (!(await ask(`${words.leaveAccount}?`, words.leaveAccountWhy, words.leaveAccount))) return;
    await api.call("POST", "api/auth/leave/", acceptedFrom, values);
    api.end();
  });
  leave.querySelector(".button")?.classList.add("danger");
  return [card(words.changePassword, change), card(words.account, h("p", { class: "faint", text: words.leaveAccountWhy }), leave)];
}
