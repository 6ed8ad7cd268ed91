// Runs the browser client under Node for tests/acceptance/test_client_js.py: each line of standard
// input is JavaScript to run, `tell(value)` prints a line of JSON.
import { createInterface } from "node:readline";

const client = await import(process.argv[2]);
const replacer = (_key, value) => (typeof value === "bigint" ? `bigint ${value}` : value);
globalThis.tell = (value) => console.log(JSON.stringify(value, replacer));
Object.assign(globalThis, client);

tell("ready");
for await (const line of createInterface({ input: process.stdin }))
  new Function(`return (async () => { ${line} })()`)().catch((error) => tell(`failed: ${error}`));
process.exit(0);
