// Buttons that write rows of the demo; the stack of `make dev` answers them, no gateway does.

export class Demo {
  #url;
  #row;
  #said;

  /** Ask for the users at this address, and show the buttons. */
  static async find(url, element) {
    try {
      return new Demo(url, await (await fetch(`${url}/users`)).json(), element);
    } catch {
      return undefined; // it has ended
    }
  }

  constructor(url, { users, password }, element) {
    this.#url = url;
    this.accounts = users.map((email) => ({ email, password }));
    this.#said = element.querySelector("[data-demo-said]");
    const choice = element.querySelector("[data-demo-user]");
    choice.append(...users.map((user) => new Option(user, user)));
    for (const button of element.querySelectorAll("[data-demo]"))
      button.addEventListener("click", () => this.#write(button.dataset.demo, choice.value));
    element.hidden = false;
  }

  async #write(action, user) {
    try {
      const response = await fetch(`${this.#url}/${action}`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ user, row: this.#row ?? null }),
      });
      const { row, message } = await response.json();
      if (response.ok) this.#row = row;
      this.#said.textContent = message;
    } catch {
      this.#said.textContent = "the demo does not answer";
    }
  }
}
