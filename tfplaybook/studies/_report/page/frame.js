// The frame that pictures of the objective share: its axis, and rows at the bad end for the rest.

const ROW = 16;
const PADDING = 0.08;

class Frame {
  constructor(width, height, margin = { top: 8, right: 10, bottom: 22, left: 46 }) {
    Object.assign(this, { width, height, ...margin });
    this.right = width - margin.right;
    this.bottom = height - margin.bottom;
    const places = new Set(trials.map((_, i) => placeOf(i)));
    this.hasBad = places.has("infeasible") || places.has("failed");
    this.rows = Number(places.has("beyond")) + Number(this.hasBad);
    const span = model.range ? model.range.worst - model.range.best : 0;
    const pad = span > 0 ? PADDING * span : Math.abs(model.range?.best ?? 1) * 0.5 || 0.5;
    this.best = (model.range?.best ?? 0) - pad;
    this.worst = (model.range?.worst ?? 1) + pad;
  }

  // The height at a cost (lower is better); for "max" the picture is upside down.
  cost(cost) {
    const inner = this.bottom - this.top - this.rows * ROW;
    const fraction = (cost - this.best) / (this.worst - this.best);
    return model.direction === "min"
      ? this.bottom - fraction * inner
      : this.top + fraction * inner;
  }

  row(index) {
    const distance = (this.rows - index - 0.5) * ROW;
    return model.direction === "min" ? this.top + distance : this.bottom - distance;
  }

  // The height of a trial's mark; null if it has none.
  y(index) {
    switch (placeOf(index)) {
      case "inside": return this.cost(sign() * model.outcomes[index].value);
      case "beyond": return this.row(0);
      case null: return null;
      default: return this.row(this.rows - 1);
    }
  }

  // The x of a fraction of the axis, with `pad` of it free on either side.
  x(place, pad = 0.05) {
    return this.left + ((place + pad) / (1 + 2 * pad)) * (this.right - this.left);
  }

  place(x, pad = 0.05) {
    return ((x - this.left) / (this.right - this.left)) * (1 + 2 * pad) - pad;
  }

  // Lines and labels of the objective; `isShaded` marks the rows for the rest.
  background(isShaded = true) {
    const parts = [];
    if (this.rows && isShaded) {
      const height = this.rows * ROW;
      const y = model.direction === "min" ? this.top : this.bottom - height;
      parts.push(draw("rect", { class: "rows", x: this.left, y, width: this.right - this.left, height }));
    }
    if (model.range) {
      const ends = [sign() * this.best, sign() * this.worst].sort((a, b) => a - b);
      for (const tick of ticks(...ends, 4)) {
        const y = this.cost(sign() * tick);
        parts.push(
          draw("line", { class: "grid", x1: this.left, x2: this.right, y1: y, y2: y }),
          draw("text", { class: "tick", x: this.left - 6, y: y + 3.5, "text-anchor": "end" }, format(tick)));
      }
    }
    parts.push(draw("path", { class: "axis", d: `M${this.left} ${this.top}V${this.bottom}H${this.right}` }));
    return parts;
  }

  // Labels below the axis, less those that would run into the one before.
  labels(entries) {
    let end = -Infinity;
    return entries.flatMap(([x, text]) => {
      const half = text.length * 3.1;
      const middle = Math.min(Math.max(x, half), this.width - half);
      if (middle - half < end + 4) return [];
      end = middle + half;
      return [draw("text", { class: "tick", x: middle, y: this.bottom + 15, "text-anchor": "middle" }, text)];
    });
  }
}

const CIRCLE = (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;
const STAR = Array.from({ length: 10 }, (_, i) => {
  const [angle, radius] = [(i * Math.PI) / 5, i % 2 ? 3.1 : 7.4];
  return `${i ? "L" : "M"}${(radius * Math.sin(angle)).toFixed(2)} ${(-radius * Math.cos(angle)).toFixed(2)}`;
}).join("") + "Z";
const SHAPES = {
  first: STAR,
  second: CIRCLE(5),
  third: CIRCLE(5),
  inside: CIRCLE(3.2),
  beyond: "M-4 3.4L0-3.6L4 3.4Z",
  infeasible: "M-3.6-3.6L3.6 3.6M-3.6 3.6L3.6-3.6",
  failed: "M0-4.6V4.6M-4.6 0H4.6",
};
const MEDALS = [null, "first", "second", "third"];

// The kind of mark that a trial has now: one of SHAPES, or null.
function markOf(index) {
  const place = placeOf(index);
  return place === "inside" ? MEDALS[model.ranks[index]] ?? place : place;
}
