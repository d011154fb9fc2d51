// Everything about one trial: its configuration, how it ended, and how to run it again.

const trialView = {
  open() {
    const panel = byId("trial");
    if (model.opened === null) {
      panel.replaceChildren(make("p", {}, "No trial has been started."));
      return;
    }
    const trial = trials[model.opened];
    const { status, value, epoch } = model.outcomes[model.opened];
    const settings = data.hyperparameters.map((h, k) => [h.name, trial.values[k]])
      .concat(Object.entries(trial.others));
    panel.replaceChildren(
      make("h3", {}, "Trial ", user(trial.id), " ", make("span", { class: `status ${status}` }, status)),
      definitions([
        [model.metric, status === "completed" ? format(value) : ""],
        ["best epoch", status === "completed" && epoch !== null ? String(epoch + 1) : ""],
        ["given by", trial.enqueued ? "the user" : ""],
      ]),
      make("h4", {}, "Configuration"),
      definitions(settings.map(([name, v]) =>
        [name, v === null ? null : user(typeof v === "number" ? String(v) : format(v))])),
      ...(trial.message
        ? [make("h4", {}, "Message"), make("pre", { dir: "auto", tabindex: "0" }, trial.message)] : []),
      ...trial.runs.map((run) => this.run(run)));
  },

  layout() {
    this.open();
  },

  run(run) {
    const origin = data.origins[run.origin];
    return make("div", {},
      make("h4", {}, "Run ", user(run.path)),
      definitions([
        ["seed", run.seed === null ? null : String(run.seed)],
        ["started", run.started && user(String(run.started))],
        ["note", run.note && user(String(run.note))],
        ["code", origin.commit && codeOf(origin)],
      ]),
      origin.reproduction ? command(origin.reproduction) : null);
  },
};

// The commit, and that there is more to know about it.
const codeOf = (origin) => make("span", {}, make("code", {}, origin.commit.slice(0, 10)),
  origin.hasChanges ? " with uncommitted changes, listed below" : "");
