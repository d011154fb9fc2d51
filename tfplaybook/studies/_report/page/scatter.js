// A picture with a mark for every trial, at `placeOf(trial)` of its x axis: the objective against
// one hyperparameter, or against the order of the trials. A rectangle in it selects trials.

const NEAR = 14;
const CLICK = 4;

class Scatter {
  constructor({ title, ticks: entries, place, bounds = [], pad = 0.05, hasBestSoFar = false, height = 200 }) {
    Object.assign(this, { title, entries, place, bounds, pad, hasBestSoFar, height });
    this.svg = draw("svg", { tabindex: "0", role: "application", "aria-roledescription": "plot" });
    this.svg.setAttribute("aria-label", `${title}: arrow keys move from trial to trial`);
    this.figure = make("figure", { class: hasBestSoFar ? "wide" : "" },
      make("figcaption", { dir: "auto", title }, shorten(title, 70)), this.svg);
    this.rectangle = null;
    this.cursor = null;
    this.listen();
  }

  layout() {
    const width = Math.max(this.svg.clientWidth, 220);
    this.frame = new Frame(width, this.height);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    this.spots = trials.map((_, i) => {
      const [place, y] = [this.place(i), this.frame.y(i)];
      return place === null || y === null ? null : { x: this.frame.x(place, this.pad), y };
    });
    this.marks = this.spots.map((spot) =>
      spot && draw("path", { transform: `translate(${spot.x.toFixed(1)} ${spot.y.toFixed(1)})` }));
    this.order = this.spots.flatMap((spot, i) => (spot ? [i] : []))
      .sort((a, b) => this.spots[a].x - this.spots[b].x || this.spots[a].y - this.spots[b].y);
    this.brush = draw("rect", { class: "brush", visibility: "hidden" });
    this.ring = draw("circle", { class: "ring", r: 9, visibility: "hidden" });
    this.opened = draw("circle", { class: "opened", r: 9, visibility: "hidden" });
    this.group = draw("g", {}, ...this.order.map((i) => this.marks[i]));
    this.svg.replaceChildren(
      ...this.frame.background(),
      ...this.bounds.map((place) => {
        const x = this.frame.x(place, this.pad);
        return draw("line", { class: "bound", x1: x, x2: x, y1: this.frame.top, y2: this.frame.bottom });
      }),
      ...this.frame.labels(this.entries.map(([place, label]) =>
        [this.frame.x(place, this.pad), shorten(label, 18)])),
      ...(this.hasBestSoFar ? [this.bestSoFar()] : []),
      this.brush, this.opened, this.group, this.ring);
    if (!this.order.length) {
      this.svg.append(draw("text", {
        class: "empty", "text-anchor": "middle",
        x: (this.frame.left + this.frame.right) / 2, y: this.height / 2,
      }, "no trial has ended"));
    }
    this.drawBrush();
  }

  bestSoFar() {
    let path = "";
    let best = Infinity;
    let at = null;
    for (const i of this.order) {
      const cost = sign() * (model.outcomes[i].value ?? NaN);
      if (placeOf(i) === "inside" && cost < best) {
        best = cost;
        at = this.spots[i];
        path += path ? `H${at.x}V${at.y}` : `M${at.x} ${at.y}`;
      }
    }
    return draw("path", { class: "record", d: at ? `${path}H${this.frame.right}` : "" });
  }

  select() {
    const drawn = [];
    this.order.forEach((i) => {
      const kind = markOf(i);
      const name = `mark ${kind}${model.selected[i] ? "" : " dim"}`;
      const mark = this.marks[i];
      if (mark.getAttribute("class") !== name) {
        mark.setAttribute("class", name);
        mark.setAttribute("d", SHAPES[kind]);
        const flip = kind === "beyond" && model.direction === "max" ? " scale(1 -1)" : "";
        mark.setAttribute("transform",
          `translate(${this.spots[i].x.toFixed(1)} ${this.spots[i].y.toFixed(1)})${flip}`);
      }
      if (model.ranks[i] !== null && model.ranks[i] <= 3) drawn.unshift(mark);
    });
    drawn.forEach((mark) => this.group.append(mark)); // the best lie on top
  }

  focus() {
    this.moveTo(this.ring, model.focused);
  }

  open() {
    this.moveTo(this.opened, model.opened);
  }

  moveTo(circle, index) {
    const spot = index === null ? null : this.spots[index];
    circle.setAttribute("visibility", spot ? "visible" : "hidden");
    if (spot) {
      circle.setAttribute("cx", spot.x);
      circle.setAttribute("cy", spot.y);
    }
  }

  listen() {
    let start = null;
    const at = (event) => {
      const box = this.svg.getBoundingClientRect();
      const scale = this.frame.width / box.width;
      return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
    };
    this.svg.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      start = at(event);
      this.svg.setPointerCapture(event.pointerId);
    });
    this.svg.addEventListener("pointermove", (event) => {
      const point = at(event);
      if (start === null) {
        const near = this.nearest(point);
        focusTrial(near);
        if (near !== null) tooltip.show(near, this.svg, this.spots[near], this.frame.width);
        else tooltip.hide();
      } else if (Math.hypot(point.x - start.x, point.y - start.y) >= CLICK) {
        tooltip.hide();
        this.setBrush(start, point);
      }
    });
    this.svg.addEventListener("pointerup", (event) => {
      const point = at(event);
      if (start !== null && Math.hypot(point.x - start.x, point.y - start.y) < CLICK) {
        const near = this.nearest(point);
        if (near !== null) openTrial(near);
        else this.clearBrush();
      }
      start = null;
    });
    const leave = () => {
      start = null;
      focusTrial(null);
      tooltip.hide();
    };
    this.svg.addEventListener("pointerleave", leave);
    this.svg.addEventListener("pointercancel", leave);
    this.svg.addEventListener("blur", leave);
    this.svg.addEventListener("keydown", (event) => this.press(event));
  }

  press(event) {
    const last = this.order.length - 1;
    const here = this.order.indexOf(this.cursor);
    const moves = {
      ArrowRight: Math.min(here + 1, last), ArrowDown: Math.min(here + 1, last),
      ArrowLeft: Math.max(here - 1, 0), ArrowUp: Math.max(here - 1, 0),
      Home: 0, End: last,
    };
    if (event.key in moves && last >= 0) {
      if (!event.shiftKey || here < 0) this.anchor = event.shiftKey ? this.order[moves[event.key]] : null;
      else this.anchor ??= this.cursor;
      this.cursor = this.order[moves[event.key]];
      focusTrial(this.cursor);
      tooltip.show(this.cursor, this.svg, this.spots[this.cursor], this.frame.width, true);
      if (event.shiftKey) this.brushColumns(this.spots[this.anchor].x, this.spots[this.cursor].x);
    } else if (event.key === "Enter" && this.cursor !== null) openTrial(this.cursor);
    else if (event.key === "Escape") this.clearBrush();
    else return;
    event.preventDefault();
  }

  nearest(point) {
    let [near, distance] = [null, NEAR];
    this.order.forEach((i) => {
      const away = Math.hypot(this.spots[i].x - point.x, this.spots[i].y - point.y);
      if (away < distance) [near, distance] = [i, away];
    });
    return near;
  }

  brushColumns(one, other) {
    const [low, high] = [Math.min(one, other) - 4, Math.max(one, other) + 4];
    this.setBrush({ x: low, y: this.frame.top }, { x: high, y: this.frame.bottom });
  }

  // Kept as places and not as pixels, so that it stays where it is when the page changes its width.
  setBrush(one, other) {
    const [x0, x1] = [one.x, other.x].sort((a, b) => a - b).map((x) => this.frame.place(x, this.pad));
    const [y0, y1] = [one.y, other.y].sort((a, b) => a - b).map((y) => y / this.height);
    this.rectangle = { x0, x1, y0, y1 };
    model.brushes.set(this, {
      contains: (i) => {
        const place = this.place(i);
        const height = this.spots[i] === null ? null : this.spots[i].y / this.height;
        return place !== null && height !== null && place >= x0 && place <= x1 && height >= y0 && height <= y1;
      },
      clear: () => {
        this.rectangle = null;
        this.drawBrush();
      },
    });
    this.drawBrush();
    updateSelection();
  }

  clearBrush() {
    if (!model.brushes.has(this)) return;
    model.brushes.get(this).clear();
    model.brushes.delete(this);
    updateSelection();
  }

  drawBrush() {
    this.brush.setAttribute("visibility", this.rectangle ? "visible" : "hidden");
    if (!this.rectangle) return;
    const { x0, x1, y0, y1 } = this.rectangle;
    const left = Math.max(this.frame.x(x0, this.pad), this.frame.left);
    const right = Math.min(this.frame.x(x1, this.pad), this.frame.right);
    const top = Math.max(y0 * this.height, this.frame.top);
    const bottom = Math.min(y1 * this.height, this.frame.bottom);
    this.brush.setAttribute("x", left);
    this.brush.setAttribute("y", top);
    this.brush.setAttribute("width", Math.max(right - left, 0));
    this.brush.setAttribute("height", Math.max(bottom - top, 0));
  }
}

// The box beside a mark; what it says of one reached by keyboard is also read aloud.
const tooltip = {
  show(index, svg, spot, width, isSpoken = false) {
    const { title, head, settings } = describe(index);
    const box = byId("tooltip");
    box.replaceChildren(make("strong", {}, user(title)), make("span", {}, user(head)),
      ...settings.map((line) => make("span", {}, user(line))));
    box.hidden = false;
    const frame = svg.getBoundingClientRect();
    const scale = frame.width / width;
    const x = frame.left + spot.x * scale;
    const left = x + 14 + box.offsetWidth > innerWidth ? x - 14 - box.offsetWidth : x + 14;
    const top = frame.top + spot.y * scale - box.offsetHeight / 2;
    box.style.left = `${Math.max(left, 4)}px`;
    box.style.top = `${Math.min(Math.max(top, 4), innerHeight - box.offsetHeight - 4)}px`;
    if (isSpoken) byId("announcement").textContent = [title, head, ...settings].join(", ");
  },
  hide() {
    byId("tooltip").hidden = true;
  },
};
