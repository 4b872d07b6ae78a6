// The console: for whoever is logged in his desk, for all others the door.
import { Api, pauseBefore } from "./api.js";
import { Desk } from "./desk.js";
import { SignIn, Waiting } from "./signin.js";
import { lang, words } from "./words.js";

const SLOW_MS = 3000; // a server that has not answered by then is as good as one that cannot be reached

const api = new Api();
const place = document.getElementById("app");
let shown = null;

function show(view) {
  shown?.close();
  shown = view;
  place.replaceChildren(view.element);
}

const enter = () => show(new Desk(api));
const leave = (byOthers) => show(new SignIn(api, enter, byOthers ? words.signedOut : words.welcome));
const wait = () => shown ?? show(new Waiting());

/** Whatever the server says, or does not, something is to be seen. */
async function begin() {
  const slow = setTimeout(wait, SLOW_MS);
  for (let tries = 0; ; tries++) {
    try {
      const user = await api.resume();
      clearTimeout(slow);
      return user ? enter() : leave();
    } catch (error) {
      wait();
      await pauseBefore(tries, error);
    }
  }
}

document.documentElement.lang = lang;
api.onended = leave;
api.onwaiting = wait;
await begin();
