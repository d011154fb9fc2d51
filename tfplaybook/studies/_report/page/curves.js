// Curves of one metric of the selected trials: the best three in colour, the opened one on top.
// Validation is solid and training dashed, as in the pictures that `save_plots` writes.

const START_FRACTION = 0.2;
const MARGIN = { top: 8, right: 14, bottom: 36, left: 52 };

class Curves {
  constructor() {
    this.names = [...new Set(trials.flatMap((trial) => trial.curves.flatMap(Object.keys)))];
    this.choice = make("select", { id: "curve", onchange: () => this.select() },
      ...this.names.map((name) => make("option", { value: name }, name)));
    this.isLog = make("input", { type: "checkbox", id: "log", onchange: () => this.select() });
    this.svg = draw("svg", { role: "img" });
    this.figure = make("figure", { class: "curves" },
      make("div", { class: "bar" }, make("label", {}, "Curves of ", this.choice),
        make("label", {}, this.isLog, " log scale")),
      this.svg);
    this.svg.addEventListener("pointermove", (event) => this.move(event));
    this.svg.addEventListener("pointerleave", () => { focusTrial(null); tooltip.hide(); });
    this.svg.addEventListener("click", () => model.focused !== null && openTrial(model.focused));
  }

  layout() {
    this.width = Math.max(this.svg.clientWidth, 260);
    this.height = 300;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    if (this.metric !== model.metric && this.names.includes(model.metric)) {
      this.choice.value = model.metric;
    }
    this.metric = model.metric;
  }

  // The curves to draw, the opened trial's last, so that they lie on top.
  lines() {
    const name = this.choice.value;
    const other = name.startsWith("val_") ? name.slice(4) : `val_${name}`;
    const lines = [];
    trials.forEach((trial, i) => {
      const isOpened = model.opened === i;
      if (!model.selected[i] && !isOpened) return;
      const medal = MEDALS[model.ranks[i]] ?? null;
      const level = isOpened ? 4 : medal ? 4 - model.ranks[i] : 0;
      for (const run of trial.curves) {
        const line = { i, level, medal, isOpened };
        if (run[name]) lines.push({ ...line, isMain: true, points: this.points(run[name]) });
        if (run[other] && level) lines.push({ ...line, isMain: false, points: this.points(run[other]) });
      }
    });
    return lines.sort((a, b) => a.level - b.level);
  }

  points([steps, values]) {
    return data.steps[steps].map((step, k) => [step, Number(values[k])]);
  }

  select() {
    const lines = this.lines();
    const last = Math.max(...lines.map(({ points }) => points.at(-1)[0]), 1);
    const [low, high, isLog] = this.range(lines, last);
    const height = (value) => (isLog ? Math.log10(value) : value);
    const [bottom, top] = [this.height - MARGIN.bottom, MARGIN.top];
    const [left, right] = [MARGIN.left, this.width - MARGIN.right];
    const x = (step) => left + (step / last) * (right - left);
    const span = height(high) - height(low) || 1;
    const y = (value) => bottom - ((height(value) - height(low)) / span) * (bottom - top);
    const parts = [
      draw("clipPath", { id: "inside" },
        draw("rect", { x: left, y: top, width: right - left, height: bottom - top })),
      ...(isLog ? logTicks(low, high) : ticks(low, high, 5)).flatMap((tick) => [
        draw("line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) }),
        draw("text", { class: "tick", x: left - 6, y: y(tick) + 3.5, "text-anchor": "end" }, format(tick)),
      ]),
      draw("path", { class: "axis", d: `M${left} ${top}V${bottom}H${right}` }),
      ...ticks(0, last, 5).map((tick) =>
        draw("text", { class: "tick", x: x(tick), y: bottom + 15, "text-anchor": "middle" }, format(tick))),
      draw("text", { class: "tick", x: (left + right) / 2, y: bottom + 31, "text-anchor": "middle" },
        "training step"),
    ];
    const group = draw("g", { "clip-path": "url(#inside)" });
    this.drawn = lines.map((line) => {
      const other = placeOf(line.i) === "infeasible" ? "lost" : "other";
      const kind = line.isOpened ? "opened" : line.medal ?? other;
      const isVisible = (value) => Number.isFinite(value) && (!isLog || value > 0);
      const visible = line.points.filter(([, value]) => isVisible(value));
      const d = visible.map(([step, value]) => `${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("L");
      group.append(draw("path", { class: `curve ${kind}${line.isMain ? "" : " training"}`, d: d && `M${d}` }));
      return { i: line.i, spots: visible.map(([step, value]) => ({ x: x(step), y: y(value) })) };
    });
    this.highlight = draw("g", { class: "highlight" });
    group.append(this.highlight);
    parts.push(group);
    this.svg.replaceChildren(...parts);
    this.svg.setAttribute("aria-label",
      `${this.choice.value} against the training step, ${count(lines.length, "curve")}`);
  }

  // The first steps and single peaks of a metric would flatten the rest.
  range(lines, last) {
    const all = lines.filter(({ isMain }) => isMain).flatMap(({ points }) => points)
      .filter(([step, value]) => Number.isFinite(value) && step >= START_FRACTION * last)
      .map(([, value]) => value).sort((a, b) => a - b);
    if (!all.length) return [0, 1, false];
    const isMaximized = data.metrics[this.choice.value] === "max";
    const isMinimized = data.metrics[this.choice.value] === "min";
    let [low, high] = [quantile(all, isMaximized ? 0.05 : 0), quantile(all, isMinimized ? 0.95 : 1)];
    const positive = all.find((value) => value > 0);
    if (this.isLog.checked && positive !== undefined && high > 0) {
      return [Math.max(low, positive) / 1.1, high * 1.1, true];
    }
    const pad = (high - low || Math.abs(high) || 1) * PADDING;
    return [low - pad, high + pad, false];
  }

  focus() {
    const spots = (this.drawn ?? []).filter((line) => line.i === model.focused && line.spots.length);
    this.highlight.replaceChildren(...spots.map((line) =>
      draw("path", { class: "curve", d: `M${line.spots.map((s) => `${s.x} ${s.y}`).join("L")}` })));
  }

  open() {
    this.select();
  }

  move(event) {
    const box = this.svg.getBoundingClientRect();
    const scale = this.width / box.width;
    const [px, py] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let [near, distance] = [null, NEAR];
    for (const line of this.drawn) {
      for (const spot of line.spots) {
        const away = Math.hypot(spot.x - px, spot.y - py);
        if (away < distance) [near, distance] = [{ i: line.i, spot }, away];
      }
    }
    focusTrial(near?.i ?? null);
    if (near) tooltip.show(near.i, this.svg, near.spot, this.width);
    else tooltip.hide();
  }
}
