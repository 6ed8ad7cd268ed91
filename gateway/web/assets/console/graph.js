// A minute of figures, one a second, as a line.

const SECONDS = 60;
const WIDTH = 240;
const HEIGHT = 48;

export class Graph {
  #values = new Array(SECONDS).fill(0);
  #line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  #svg;
  #name;
  #unit;

  constructor(svg, name, unit) {
    this.#svg = svg;
    this.#name = name;
    this.#unit = unit;
    svg.append(this.#line);
    this.push(0);
  }

  push(value) {
    this.#values.push(value);
    this.#values.shift();
    const most = Math.max(1, ...this.#values);
    const points = this.#values.map((value, second) => {
      const x = (second / (SECONDS - 1)) * WIDTH;
      return `${x.toFixed(1)},${(HEIGHT - 2 - (value / most) * (HEIGHT - 4)).toFixed(1)}`;
    });
    this.#line.setAttribute("points", points.join(" "));
    const text = `${this.#name}, the last minute: at most ${Math.round(most)} ${this.#unit}`;
    this.#svg.setAttribute("aria-label", text);
  }
}
