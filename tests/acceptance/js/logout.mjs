// The published client under Node: logs in, logs out, and tries its old refresh tokens at another
// gateway. Prints one JSON object.
//
//   node logout.mjs BASE_URL OTHER_BASE_URL EMAIL PASSWORD

import { AYBClient } from "@allyourbase/js";

const [base, other, email, password] = process.argv.slice(2);
const seen = {};

async function outcome(work) {
  try {
    await work();
    return "ok";
  } catch (error) {
    return `${error.status} ${error.message}`;
  }
}

const ayb = new AYBClient(base);
const first = await ayb.auth.login(email, password);
const second = await ayb.auth.refresh();
seen.logout = await outcome(() => ayb.auth.logout());
seen.token = ayb.token;
for (const [name, url, tokens] of [
  ["first here", base, first],
  ["second here", base, second],
  ["first there", other, first],
  ["second there", other, second],
]) {
  const client = new AYBClient(url);
  client.setTokens(tokens.token, tokens.refreshToken);
  seen[name] = await outcome(() => client.auth.refresh());
}
const again = new AYBClient(other);
seen.again = await outcome(async () => {
  await again.auth.login(email, password);
  await again.auth.refresh();
});
console.log(JSON.stringify(seen));
