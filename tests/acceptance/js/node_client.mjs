// The published client under Node: logs in, subscribes, and tells as JSON lines what happens.
// A line "unsubscribe" on standard input ends the subscription; the end of the input, the program.
//
//   node node_client.mjs BASE_URL EMAIL PASSWORD TABLE...

import { createInterface } from "node:readline";
import { AYBClient } from "@allyourbase/js";
import { EventSource } from "eventsource";

const [base, email, password, ...tables] = process.argv.slice(2);
const tell = (what, value) => console.log(JSON.stringify({ [what]: value }));

// The client takes the browser's EventSource. This one tells besides when the stream is live, and
// each message as it came.
globalThis.EventSource = class extends EventSource {
  constructor(...args) {
    super(...args);
    this.addEventListener("connected", (e) => tell("connected", JSON.parse(e.data)));
    this.addEventListener("message", (e) => tell("raw", e.data));
    this.addEventListener("error", (e) => tell("error", e.message ?? String(e.code)));
  }
};

const ayb = new AYBClient(base);
const session = await ayb.auth.login(email, password);
tell("user", session.user);
tell("me", await ayb.auth.me());
tell("refreshed", (await ayb.auth.refresh()).user);

const unsubscribe = ayb.realtime.subscribe(tables, (event) => tell("event", event));

for await (const line of createInterface({ input: process.stdin })) {
  if (line === "unsubscribe") {
    unsubscribe();
    tell("unsubscribed", true);
  }
}
process.exit(0);
