// Confirmation dialogs.
import { h } from "../shared/dom";
import { words } from "./words";

/** Values of a form by field name, without files. */
export type Values = Record<string, string>;

export function valuesOf(form: HTMLFormElement): Values {
  const values: Values = {};
  new FormData(form).forEach((value, name) => {
    if (typeof value === "string") values[name] = value;
  });
  return values;
}

/** Shows a confirmation dialog. Resolves to the values of its fields, or to `null` if the user cancels it. */
export function ask(title: string, explanation: string, label: string, ...fields: HTMLElement[]): Promise<Values | null> {
  const cancel = h("button", { class: "button", value: "", autofocus: true, text: words.cancel });
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { text: title }),
    h("p", { class: "faint", text: explanation }),
    ...fields,
    // The cancel button receives the focus, because it changes nothing.
    h("div", { class: "buttons" }, h("button", { class: "button main danger", value: "yes", text: label }), cancel),
  );
  const dialog = h("dialog", { "aria-label": title }, form);
  return new Promise((resolve) => {
    let isSettled = false;
    const settle = (isYes: boolean): void => {
      if (isSettled) return;
      isSettled = true;
      const values = isYes ? valuesOf(form) : null;
      hide();
      resolve(values);
    };
    form.onsubmit = (event) => {
      event.preventDefault();
      settle(event.submitter instanceof HTMLButtonElement && event.submitter.value === "yes");
    };
    dialog.onclose = () => settle(false);
    const hide = typeof dialog.showModal === "function" ? showModal(dialog) : showLegacyModal(dialog, cancel, () => settle(false));
  });
}

/** Cancels all dialogs, because the page that they belong to is replaced. */
export function cancelDialogs(): void {
  for (const dialog of document.querySelectorAll("dialog")) dialog.dispatchEvent(new Event("close"));
}

function showModal(dialog: HTMLDialogElement): () => void {
  document.body.append(dialog);
  dialog.showModal();
  return () => {
    dialog.close();
    dialog.remove();
  };
}

/** Shows a modal dialog in versions of Firefox before 98, which have no `showModal`. */
function showLegacyModal(dialog: HTMLElement, first: HTMLElement, cancelled: () => void): () => void {
  const before = document.activeElement;
  dialog.setAttribute("role", "dialog");
  dialog.setAttribute("aria-modal", "true");
  dialog.setAttribute("open", "");
  const backdrop = h("div", { class: "backdrop" }, dialog);
  dialog.onkeydown = (event: KeyboardEvent) => {
    if (event.key === "Escape") cancelled();
    if (event.key !== "Tab") return;
    const stops = [...dialog.querySelectorAll<HTMLElement>("input, select, textarea, button")];
    const at = stops.indexOf(document.activeElement as HTMLElement) + (event.shiftKey ? -1 : 1);
    stops.at(at % stops.length)?.focus();
    event.preventDefault();
  };
  document.body.append(backdrop);
  first.focus();
  return () => {
    backdrop.remove();
    if (before instanceof HTMLElement) before.focus();
  };
}
