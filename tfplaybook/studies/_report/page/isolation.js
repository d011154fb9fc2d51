// The best of the selected trials at each value of a scientific hyperparameter, or in each part of
// its range: all others are optimized over (E3). A part with more trials has an advantage (E4),
// so every part says how many it has.

const BAR_FRACTION = 0.35;

class Isolation {
  constructor({ axis: column, buckets }) {
    this.axis = data.axes[column];
    this.column = column;
    this.buckets = buckets;
    this.pad = this.axis.categories ? 0.5 / (this.axis.categories - 1) : 0.05;
    const title = `${data.hyperparameters[this.axis.hyperparameter].name}: best of each`;
    this.svg = draw("svg", { role: "img" });
    this.figure = make("figure", {}, make("figcaption", { dir: "auto", title }, shorten(title, 70)), this.svg);
  }

  layout() {
    this.width = Math.max(this.svg.clientWidth, 220);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} 200`);
    this.frame = new Frame(this.width, 200, { top: 22, right: 10, bottom: 22, left: 46 });
  }

  select() {
    const { frame } = this;
    const parts = frame.background(false);
    parts.push(...frame.labels(this.axis.ticks.map(([place, label]) =>
      [frame.x(place, this.pad), shorten(label, 18)])));
    const found = this.buckets.map(([low, high, label]) =>
      ({ low, high, label, ...this.bestOf(low, high) }));
    const [best] = found.filter((bucket) => bucket.best !== null)
      .sort((a, b) => model.ranks[a.best] - model.ranks[b.best]);
    for (const i of this.drawn()) {
      const cx = frame.x(trials[i].places[this.column], this.pad);
      parts.push(placeOf(i) === "inside"
        ? draw("circle", { class: "faint", r: 2, cx, cy: frame.y(i) })
        : draw("path", { class: "faint", d: SHAPES.beyond, transform: this.beyond(cx, frame.y(i)) }));
    }
    for (const bucket of found) {
      const [x0, x1] = this.ends(bucket);
      parts.push(draw("text", { class: "tick", x: (x0 + x1) / 2, y: 14, "text-anchor": "middle" },
        bucket.lost ? `${bucket.completed} +${bucket.lost}` : `${bucket.completed}`));
      if (bucket.best === null) continue;
      const y = frame.y(bucket.best);
      const name = bucket === best ? "bucket best" : "bucket";
      parts.push(draw("line", { class: name, x1: x0, x2: x1, y1: y, y2: y }));
    }
    this.svg.replaceChildren(...parts);
    this.svg.setAttribute("aria-label", found.map((b) => (b.best === null
      ? `${b.label}: none completed`
      : `${b.label}: ${format(model.outcomes[b.best].value)}, ${count(b.completed, "trial")}`)).join("; "));
  }

  drawn() {
    return trials.flatMap((trial, i) =>
      (model.selected[i] && trial.places[this.column] !== null
        && ["inside", "beyond"].includes(placeOf(i)) ? [i] : []));
  }

  // The triangle points away from the good end.
  beyond(x, y) {
    const scale = model.direction === "max" ? "0.7 -0.7" : "0.7";
    return `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(${scale})`;
  }

  ends({ low, high }) {
    if (low < high) return [this.frame.x(low, this.pad) + 1.5, this.frame.x(high, this.pad) - 1.5];
    const gaps = this.buckets.slice(1).map(([next], i) => next - this.buckets[i][0]);
    const half = BAR_FRACTION * Math.min(...gaps, 0.5);
    return [this.frame.x(low - half, this.pad), this.frame.x(low + half, this.pad)];
  }

  // The best selected trial between two places, and how many are completed and lost there.
  bestOf(low, high) {
    let [best, completed, lost] = [null, 0, 0];
    const near = low === high ? 1e-4 : 0;
    trials.forEach((trial, i) => {
      const place = this.placeIn(trial);
      const isInside = place !== null && place >= low - near && (place < high + near || high === 1);
      if (!isInside || place > high + near || !model.selected[i]) return;
      const where = placeOf(i);
      if (where === "inside" || where === "beyond") {
        completed += 1;
        if (best === null || model.ranks[i] < model.ranks[best]) best = i;
      } else if (where !== null) lost += 1;
    });
    return { best, completed, lost };
  }

  // Marks of one category stand beside each other, all nearest to its own place.
  placeIn(trial) {
    const place = trial.places[this.column];
    if (place === null || !this.axis.categories) return place;
    const width = this.axis.categories - 1;
    return Number((Math.round(place * width) / width).toFixed(4));
  }
}
