// "Why did I not get this event?": a form over POST /api/admin/explain.

function cell(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function table(caption, heads, rows) {
  const made = document.createElement("table");
  made.append(cell("caption", caption));
  const head = made.createTHead().insertRow();
  for (const text of heads) {
    const column = cell("th", text);
    column.scope = "col";
    head.append(column);
  }
  const body = made.createTBody();
  for (const row of rows) body.insertRow().append(...row.map((text) => cell("td", text)));
  return made;
}

const said = (value) => (value === null || value === undefined ? "unknown" : value ? "yes" : "no");

export class Explain {
  #token;
  #answer;

  constructor(details, token) {
    this.#token = token;
    this.#answer = details.querySelector(".because");
    details.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask(new FormData(event.target));
    });
    details.hidden = false;
  }

  async #ask(form) {
    this.#answer.replaceChildren(cell("p", "asking ..."));
    try {
      const response = await fetch("api/admin/explain", {
        method: "POST",
        headers: {
          "Content-Type": "application/json",
          Authorization: `Bearer ${form.get("secret")}`,
        },
        body: JSON.stringify({
          table: form.get("table"),
          key: form.get("key").split(",").map((part) => part.trim()),
          token: await this.#token(),
        }),
      });
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.message);
      this.#answer.replaceChildren(...this.#show(answer));
    } catch (error) {
      this.#answer.replaceChildren(cell("p", String(error.message ?? error)));
    }
  }

  #show(answer) {
    const facts = [
      ["Role", answer.role],
      ["ayb.user_id", answer.user_id || "(empty)"],
      ["Form", answer.reason ? `${answer.form}: ${answer.reason}` : answer.form],
      ["Readable columns", answer.readable.join(", ") || "none: GRANT SELECT is missing"],
      ["Shown now", said(answer.is_shown_now)],
      ["Error", answer.failure ?? "none"],
    ];
    const parts = [table(`${answer.table}, row ${answer.key}`, ["", ""], facts)];
    for (const change of answer.changes) {
      const rows = change.policies.map(({ name, kind, verdict, failure }) => [
        name,
        kind,
        failure ?? said(verdict),
      ]);
      const position = change.position ?? "not yet in a batch";
      const why = change.is_superseded ? ", withheld: the row has changed since" : "";
      const visible = change.is_delivered_to_all ? "to everybody" : said(change.is_visible);
      const caption = `${change.action} of ${change.at}, ${position}: visible: ${visible}${why}`;
      parts.push(table(caption, ["Policy", "Kind", "Passes"], rows));
    }
    if (answer.changes.length === 0)
      parts.push(cell("p", "No change of this row is in the outbox: older ones are gone."));
    return parts;
  }
}
