// What the reader has chosen, and what follows from it for every trial.

const data = JSON.parse(byId("data").textContent);
const trials = data.trials;

const model = {
  metric: data.objective.name,
  direction: data.objective.direction,
  brushes: new Map(), // plot -> {contains(trial), clear()}
  picked: null, // {label, trials: Set} of a finding
  focused: null, // index of the trial under the pointer
  opened: null, // index of the trial whose details are shown
  outcomes: [], // of every trial: {status, value, epoch}
  selected: [], // of every trial: whether it is in all brushes
  ranks: [], // of every trial: its place among the selected completed ones, from 1
};

// Views may have `layout`, `select`, `focus` and `open`, called when these have changed.
const views = [];

function notify(change) {
  for (const view of views) view[change]?.();
}

const sign = () => (model.direction === "min" ? 1 : -1);

function setObjective(metric, direction) {
  model.metric = metric;
  model.direction = direction;
  model.outcomes = data.outcomes[metric][direction].map(([status, value, epoch]) =>
    ({ status, value: value === null ? null : Number(value), epoch }));
  model.range = shownRange();
  notify("layout");
  updateSelection();
  if (model.opened === null && trials.length) openTrial(ranked()[0] ?? 0);
  else notify("open");
}

function updateSelection() {
  const brushes = [...model.brushes.values()];
  model.selected = trials.map((_, i) =>
    (model.picked === null || model.picked.trials.has(i))
    && brushes.every((brush) => brush.contains(i)));
  model.ranks = trials.map(() => null);
  ranked().filter((i) => model.selected[i]).forEach((i, place) => { model.ranks[i] = place + 1; });
  notify("select");
}

function clearSelection() {
  for (const brush of model.brushes.values()) brush.clear();
  model.brushes.clear();
  model.picked = null;
  updateSelection();
}

function pick(label, ids) {
  const wanted = new Set(ids);
  clearSelection();
  model.picked = { label, trials: new Set(trials.flatMap((t, i) => (wanted.has(t.id) ? [i] : []))) };
  updateSelection();
}

function focusTrial(index) {
  if (model.focused === index) return;
  model.focused = index;
  notify("focus");
}

function openTrial(index) {
  model.opened = index;
  notify("open");
}

// Indices of the completed trials, best first.
function ranked() {
  return trials.map((_, i) => i)
    .filter((i) => model.outcomes[i].status === "completed")
    .sort((a, b) => sign() * (model.outcomes[a].value - model.outcomes[b].value));
}

// The objectives that are shown in full: a completed trial that is worse than
// best + 3 (median - best) would flatten the pictures. Costs: lower is better.
function shownRange() {
  const costs = ranked().map((i) => sign() * model.outcomes[i].value);
  if (!costs.length) return null;
  const [best] = costs;
  const limit = best + 3 * (quantile(costs, 0.5) - best);
  const isCut = best < limit && limit < costs.at(-1);
  const inside = isCut ? costs.filter((cost) => cost <= limit) : costs;
  return { best, worst: inside.at(-1) };
}

// Where a trial stands in a picture of the objective; null if it has none there.
function placeOf(index) {
  const { status, value } = model.outcomes[index];
  if (status === "infeasible" || status === "failed") return status;
  if (status !== "completed") return null;
  return sign() * value <= model.range.worst ? "inside" : "beyond";
}

// What is said about a trial where there is little room.
function describe(index) {
  const { status, value } = model.outcomes[index];
  const trial = trials[index];
  const head = value === null || status !== "completed" ? status : `${model.metric} ${format(value)}`;
  const settings = data.hyperparameters
    .map((h, k) => [h.name, trial.values[k]])
    .filter(([, v]) => v !== null)
    .map(([name, v]) => `${shorten(name, 40)}: ${shorten(format(v), 40)}`);
  return { title: `Trial ${trial.id}`, head, settings };
}
