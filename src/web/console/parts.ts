// Shared controls: buttons, fields, forms that show errors beside their fields, and toasts.
import { h, icon, type Child } from "../shared/dom";
import { formatTime, later } from "../shared/time";
import { ApiError } from "./api";
import { valuesOf, type Values } from "./dialog";
import { ICONS, type IconName } from "./icons";
import { base } from "./page";
import { fieldError, reason, translated } from "./sentences";
import { lang, words } from "./words";

const TOAST_MS = 4000;

type Properties = Record<string, unknown>;

/** Page or pane of a page. */
export interface View {
  element: HTMLElement;
  close(): void;
  /** Updates the view after the list of rooms has changed. */
  show?(): void;
  /** Called after the element was added to the page. */
  entered?(): void;
  /** Called when the server is reachable again. */
  recovered?(): void;
}

/** Creates a button with an icon and a label for screen readers. */
export function tool(name: IconName, label: string, onclick: () => void, more: Properties = {}): HTMLButtonElement {
  return h("button", { class: "tool", type: "button", "aria-label": label, title: label, onclick, ...more }, icon(ICONS[name]));
}

interface FieldOptions extends Properties {
  value?: string | null;
  hint?: string;
  tag?: "input" | "textarea";
}

/** Creates a field of a form. */
export function field(name: string, label: string, { value = "", hint = "", tag = "input", ...more }: FieldOptions = {}): HTMLElement {
  const id = `field-${name}`;
  const input = h(tag, { id, name, "aria-describedby": `${id}-hint`, ...more });
  input.value = value ?? "";
  return h("div", { class: "field" }, h("label", { for: id, text: label }), input, h("small", { id: `${id}-hint`, text: hint }));
}

/** Creates a hidden field with the user name that belongs to the password in the form. Password managers read it; it is not sent. */
export function usernameFor(email: string): HTMLElement {
  return h("input", { type: "email", autocomplete: "username", value: email, readonly: true, hidden: true });
}

/** Creates a checkbox. */
export function check(name: string, label: string, isOn: boolean): HTMLElement {
  const box = h("input", { type: "checkbox", name });
  box.checked = isOn;
  return h("label", { class: "check" }, box, h("span", { text: label }));
}

/**
 * Shows each field error beside its field. Shows an error without field details, and errors of fields that the form does not contain, in `others`.
 * `null` removes all errors.
 */
function showErrors(form: HTMLFormElement, others: HTMLElement, error: unknown): void {
  const wrong: Record<string, string> = error instanceof ApiError ? { ...error.fields } : {};
  const hasFields = Object.keys(wrong).length > 0;
  for (const input of form.elements) {
    const name = input.getAttribute("name");
    const hint = name && form.querySelector<HTMLElement>(`#field-${CSS.escape(name)}-hint`);
    if (!hint) continue;
    const detail = wrong[name];
    delete wrong[name];
    hint.dataset.hint ??= hint.textContent ?? "";
    hint.textContent = detail ? translated(detail) : hint.dataset.hint;
    hint.classList.toggle("wrong", Boolean(detail));
    input.setAttribute("aria-invalid", `${Boolean(detail)}`);
  }
  others.textContent = error && !hasFields ? reason(error) : Object.entries(wrong).map(fieldError).join("; ");
}

/** Creates a form. `send(values)` submits it. If that fails, errors are shown beside their fields. */
export function form(fields: Child[], label: string, send: (values: Values) => Promise<void>, more: Child[] = []): HTMLFormElement {
  const errors = h("p", { class: "trouble", role: "alert" });
  const button = h("button", { class: "button main", text: label });
  const element = h("form", { class: "form", novalidate: true }, ...fields, errors, h("div", { class: "buttons" }, button, ...more));
  const submit = async (): Promise<void> => {
    button.disabled = true;
    showErrors(element, errors, null);
    try {
      await send(valuesOf(element));
    } catch (error) {
      showErrors(element, errors, error);
    }
    button.disabled = false;
  };
  element.onsubmit = (event) => {
    event.preventDefault();
    void submit();
  };
  return element;
}

/** Shows a message for a few seconds. Replaces the previous message. */
export function toast(text: string): void {
  const message = h("p", { text });
  document.getElementById("toasts")?.replaceChildren(message);
  later(TOAST_MS, () => message.remove());
}

/** Returns a function that runs an action. If the action fails, a toast shows the reason. */
export function attempt(action: () => Promise<void>): () => void {
  return () => void action().catch((error: unknown) => toast(reason(error)));
}

/**
 * Shows the failure of a background action in a toast. Ignores connection problems and the end of the login, because the banner and the sign-in page
 * explain them.
 */
export function reportFailure(error: unknown): void {
  const isExplained = error instanceof ApiError && (error.problem !== null || error.isUnauthorized);
  if (!isExplained) toast(reason(error));
}

/** Loads a card into `container`. If this fails, the card shows the reason and a retry button. */
export async function loadCard(container: HTMLElement, title: string, load: () => Promise<void>): Promise<void> {
  try {
    await load();
  } catch (error) {
    const retry = (): void => void loadCard(container, title, load);
    container.replaceChildren(
      card(
        title,
        h("p", { class: "trouble", role: "alert", text: reason(error) }),
        h("div", { class: "buttons" }, h("button", { class: "button", type: "button", text: words.retry, onclick: retry })),
      ),
    );
  }
}

/** Creates a switch. If `turn(isOn)` fails, the switch returns to its previous state. */
export function toggle(label: string, isOn: boolean, turn: (isOn: boolean) => Promise<void>): HTMLElement {
  const input = h("input", { type: "checkbox", role: "switch" });
  input.checked = isOn;
  const change = async (): Promise<void> => {
    input.disabled = true;
    try {
      await turn(input.checked);
    } catch (error) {
      input.checked = !input.checked;
      toast(reason(error));
    }
    input.disabled = false;
  };
  input.onchange = () => void change();
  return h("label", { class: "switch" }, input, h("span", { text: label }));
}

/**
 * Returns the path of a media file, or `null` if the URL is invalid. Only the path is used, because the public URL of the server may differ from the
 * address of this page.
 */
function mediaPath(url: string): string | null {
  try {
    return new URL(url, base).pathname;
  } catch {
    return null;
  }
}

/** Returns the first character of a name. */
export const initial = (name: string): string => [...name][0] ?? "";

/** Creates an avatar from the picture, or from the first character of the name if there is no picture. */
export function avatar(name: string, url: string | null): HTMLElement {
  const path = url && mediaPath(url);
  return h("span", { class: "avatar", "aria-hidden": "true" }, path ? h("img", { src: path, alt: "" }) : initial(name));
}

/** Creates a group of controls with a title. */
export function card(title: string, ...children: Child[]): HTMLElement {
  return h("section", { class: "card", "aria-label": title }, h("h3", { text: title }), ...children);
}

/** Copies a string. Without TLS, the clipboard API is not available, so the text of `source` is selected and copied. */
async function copyText(text: string, source: HTMLElement): Promise<void> {
  if (navigator.clipboard as Clipboard | undefined) {
    await navigator.clipboard.writeText(text);
  } else {
    getSelection()?.selectAllChildren(source);
    if (!document.execCommand("copy")) throw new Error(words.notCopied);
  }
}

/** Creates an element that shows `text` and a button that copies it. */
export function copyable(label: string, text: string, hint?: string): HTMLElement {
  const code = h("code", { text, tabindex: 0 });
  const copy = attempt(async () => {
    await copyText(text, code);
    toast(words.copied);
  });
  return h(
    "div",
    { class: "field" },
    h("span", { text: label }),
    h("div", { class: "copyable" }, code, tool("copy", `${words.copy}: ${label}`, copy)),
    hint ? h("small", { text: hint }) : null,
  );
}

/** Formats a time of today as a time of day, and any other time as a date in `format`. Returns an empty string for an invalid time. */
export function shortTime(iso: string, format: Intl.DateTimeFormatOptions): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return "";
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? formatTime(date, lang) : date.toLocaleString(lang, format);
}
