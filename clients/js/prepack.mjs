// The module is part of the gateway, which serves it: the package is packed from there.
import { copyFileSync, rmSync } from "node:fs";

const source = new URL("../../gateway/web/assets/", import.meta.url);
for (const file of ["client.js", "client.d.ts"]) {
  const target = new URL(file, import.meta.url);
  if (process.argv.includes("--undo")) rmSync(target, { force: true });
  else copyFileSync(new URL(file, source), target);
}
