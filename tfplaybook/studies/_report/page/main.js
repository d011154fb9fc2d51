// Puts the page together.

function showHeader() {
  byId("name").textContent = data.name;
  byId("summary").textContent = data.summary;
  for (const id of ["goal", "note"]) {
    byId(id).textContent = data[id];
    byId(id).hidden = !data[id];
  }
}

function showControls() {
  const metric = byId("metric");
  metric.append(...Object.keys(data.metrics).map((name) => make("option", { value: name }, name)));
  const radios = [...document.querySelectorAll("input[name=direction]")];
  const check = () => radios.forEach((radio) => { radio.checked = radio.value === model.direction; });
  const change = (direction) => {
    clearSelection();
    setObjective(metric.value, direction);
    check();
  };
  metric.addEventListener("change", () => change(data.metrics[metric.value] ?? model.direction));
  radios.forEach((radio) => radio.addEventListener("change", () => change(radio.value)));
  check();
  byId("clear").addEventListener("click", clearSelection);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") tooltip.hide();
  });
}

const selectionView = {
  layout() {
    const own = data.objective;
    byId("about").hidden = own.name === model.metric && own.direction === model.direction;
    byId("about").textContent = `These findings are about ${own.name}. For another objective: `
      + "tfplaybook report STUDY --objective METRIC";
  },

  select() {
    const chosen = model.selected.filter(Boolean).length;
    const why = model.picked === null ? "" : ` of finding ${model.picked.label}`;
    byId("selection").textContent = `${chosen} of ${count(trials.length, "trial")} selected${why}`;
    byId("clear").disabled = model.brushes.size === 0 && model.picked === null;
  },
};

function showLegend() {
  const names = {
    first: "best of the selected", second: "2nd", third: "3rd", inside: "completed",
    beyond: "worse than the axis shows", infeasible: "infeasible", failed: "failed",
  };
  byId("legend").append(...Object.entries(names).map(([kind, name]) => make("li", {},
    draw("svg", { viewBox: "-9 -9 18 18", width: 18, height: 18, "aria-hidden": "true" },
      draw("path", { class: `mark ${kind}`, d: SHAPES[kind] })), name)));
}

function makePictures() {
  const history = new Scatter({
    title: "In the order of the trials",
    ticks: ticks(0, Math.max(trials.length - 1, 0), 8).filter(Number.isInteger)
      .map((index) => [trials.length > 1 ? index / (trials.length - 1) : 0.5, trials[index]?.id ?? ""]),
    place: (i) => (trials.length > 1 ? i / (trials.length - 1) : 0.5),
    pad: 0.02,
    hasBestSoFar: true,
  });
  const axes = data.axes.map((axis, column) => new Scatter({
    title: titleOf(data.hyperparameters[axis.hyperparameter]),
    ticks: axis.ticks,
    bounds: axis.bounds,
    place: (i) => trials[i].places[column],
    pad: axis.categories ? 0.5 / (axis.categories - 1) : 0.05,
  }));
  const isolations = data.isolations.map((entry) => new Isolation(entry));
  const pictures = [history, ...axes, ...isolations];
  byId("plots").append(...pictures.map((picture) => picture.figure));
  return pictures;
}

const titleOf = ({ name, scale }) => (scale.endsWith("log") ? `${name} (${scale.replace("_", " ")})` : name);

function main() {
  showHeader();
  showVerdicts();
  showControls();
  showLegend();
  const curves = new Curves();
  const table = new Table();
  byId("curves").append(curves.names.length ? curves.figure : make("p", {}, "No curve was recorded."));
  byId("table").append(table.element);
  views.push(...makePictures(), ...(curves.names.length ? [curves] : []), table, trialView, selectionView);
  showProvenance();
  setObjective(model.metric, model.direction);

  let width = innerWidth;
  addEventListener("resize", () => {
    if (width === innerWidth) return;
    width = innerWidth;
    requestAnimationFrame(() => ["layout", "select", "open"].forEach(notify));
  });
  // What is folded away on the screen is wanted on paper.
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
}

main();
