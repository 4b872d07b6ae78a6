// The console. It shows the workspace if a host is logged in, otherwise the sign-in page.
import { later } from "../shared/time";
import { Api, ApiError } from "./api";
import { backOff } from "./backoff";
import { cancelDialogs } from "./dialog";
import { applyWireOffset } from "./page";
import type { View } from "./parts";
import { reason } from "./sentences";
import { SignIn, Waiting } from "./signin";
import { followViewport } from "./viewport";
import { lang, words } from "./words";
import { Workspace } from "./workspace";

const SLOW_MS = 3000; // time without a response after which the page reports that the server is unreachable
const BANNER_DELAY_MS = 1500; // minimum duration of an interruption that is shown

class Console {
  readonly #api = new Api();
  #view: View | null = null;
  #bannerTimer = 0;

  constructor(
    private readonly container: HTMLElement,
    private readonly banner: HTMLElement,
  ) {
    this.#api.onEnded = (elsewhere) => this.#showSignIn(elsewhere ? words.signedOut : words.welcome);
    this.#api.connection.onChanged = () => this.#connectionChanged();
    this.#api.connection.onRecovered = () => this.#view?.recovered?.();
  }

  /** Resumes the login of this browser. Retries until the server answers. */
  async begin(): Promise<void> {
    const slow = later(SLOW_MS, () => this.#showWaiting(this.#problem ?? words.problems.unreachable));
    for (let attempts = 0; ; attempts++) {
      try {
        const isLoggedIn = await this.#api.resume();
        clearTimeout(slow);
        return isLoggedIn ? this.#showWorkspace() : this.#showSignIn(words.welcome);
      } catch (error) {
        this.#showWaiting(this.#problem ?? reason(error));
        await backOff(attempts, error instanceof ApiError ? error.retryAfter : 0);
      }
    }
  }

  /** Text that explains why calls do not reach the server; `null` if they do. */
  get #problem(): string | null {
    const { problem } = this.#api.connection;
    return problem && words.problems[problem];
  }

  #show(view: View): void {
    cancelDialogs();
    this.#view?.close();
    this.#view = view;
    this.container.replaceChildren(view.element);
    view.entered?.();
    this.#connectionChanged();
  }

  #showWorkspace(): void {
    this.#show(new Workspace(this.#api));
  }

  #showSignIn(greeting: string): void {
    this.#show(new SignIn(this.#api, () => this.#showWorkspace(), greeting));
  }

  #showWaiting(text: string): void {
    if (this.#view instanceof Waiting) this.#view.update(text);
    else if (!this.#view) this.#show(new Waiting(text));
  }

  /** Shows the connection problem in the banner of the workspace or on the waiting page. */
  #connectionChanged(): void {
    clearTimeout(this.#bannerTimer);
    const problem = this.#problem;
    if (!(this.#view instanceof Workspace)) {
      this.banner.textContent = "";
      if (problem && !(this.#view instanceof SignIn)) this.#showWaiting(problem);
    } else if (problem && !this.banner.textContent) {
      this.#bannerTimer = later(BANNER_DELAY_MS, () => (this.banner.textContent = problem));
    } else {
      this.banner.textContent = problem ?? "";
    }
  }
}

const container = document.getElementById("app");
const banner = document.getElementById("banner");
// `console-check.js` sets this attribute if the browser is too old.
const isSupported = !document.documentElement.hasAttribute("data-unsupported");
if (isSupported && container && banner) {
  document.documentElement.lang = lang;
  applyWireOffset();
  followViewport();
  void new Console(container, banner).begin();
}
