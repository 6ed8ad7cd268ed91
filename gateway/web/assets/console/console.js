// The console: one or more panes, each with a user of its own.
import { Demo } from "./demo.js";
import { Pane } from "./pane.js";

const options = await (await fetch("console/options", { cache: "no-store" })).json();
const demo = options.demo && (await Demo.find(options.demo, document.querySelector(".demo")));
options.accounts = demo?.accounts;
const panes = document.getElementById("panes");
let opened = 0;

function open() {
  opened += 1;
  const pane = new Pane(options, opened);
  panes.append(pane.element);
  pane.start();
  return pane;
}

document.getElementById("beside").addEventListener("click", () => open().focus());
open();
document.documentElement.dataset.ready = "true";
