// Runs the snippet of docs/protocol.md for tokens that expire: `getToken` logs in each time.
// Prints a JSON line for each token that it gets, and for each event.
//
//   node expiring.mjs SNIPPET BASE_URL TABLES TOKEN_SERVER

import { readFile } from "node:fs/promises";
import { EventSource } from "eventsource";

const [snippet, base, tables, tokens] = process.argv.slice(2);
const say = (what, value) => console.log(JSON.stringify({ [what]: value }));
const source = await readFile(snippet, "utf8");
const subscribe = new Function(`${source}\nreturn subscribe;`)();

const unsubscribe = subscribe(base, tables, {
  EventSource,
  getToken: async () => {
    const token = await (await fetch(tokens)).text();
    say("token", token.length);
    return token;
  },
  onEvent: (event) => say("event", event),
});

process.stdin.on("end", () => {
  unsubscribe();
  process.exit(0);
});
process.stdin.resume();
