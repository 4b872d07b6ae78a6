// The console: for whoever is logged in his desk, for all others the door.
import { Api } from "./api.js";
import { Desk } from "./desk.js";
import { SignIn } from "./signin.js";
import { lang } from "./words.js";

const api = new Api();
const place = document.getElementById("app");
let shown = null;

function show(view) {
  shown?.close();
  shown = view;
  place.replaceChildren(view.element);
}

const enter = () => show(new Desk(api));
const leave = () => show(new SignIn(api, enter));

document.documentElement.lang = lang;
api.onended = leave;
if (await api.resume()) enter();
else leave();
