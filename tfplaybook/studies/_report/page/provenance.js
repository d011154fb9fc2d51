// What was run, so that it can be run again (J1).

function showProvenance() {
  const section = byId("provenance");
  section.append(definitions([
    ["study", make("code", { dir: "auto" }, data.path)],
    ["note", data.note && user(data.note)],
    ["caveat", data.caveat && user(data.caveat)],
    ["seed of the search", data.seed === null ? null : String(data.seed)],
  ]));
  if (data.hyperparameters.length) section.append(make("h3", {}, "Search space"), spaceTable());
  if (data.origins.length) section.append(make("h3", {}, data.origins.length === 1 ? "Command" : "Commands"));
  data.origins.forEach((origin, index) => section.append(showOrigin(origin, index)));
  const written = data.written.slice(0, 16).replace("T", " ");
  byId("footer").textContent = `Written by tfplaybook ${data.version} on ${written} UTC.`;
}

function spaceTable() {
  const hasRoles = data.hyperparameters.some((h) => h.role);
  const hasConditions = data.hyperparameters.some((h) => h.conditions.length);
  const heads = ["hyperparameter", "values", "scale",
    ...(hasConditions ? ["exists if"] : []), ...(hasRoles ? ["role"] : [])];
  const rows = data.hyperparameters.map((h) => [
    h.name,
    h.values.length ? h.values.map((v) => format(v)).join(", ")
      : h.bounds ? h.bounds.map((v) => format(v)).join(" to ") + (h.step === null ? "" : ` by ${format(h.step)}`)
        : "range not known",
    h.scale === "categorical" ? "" : h.scale.replace("_", " "),
    ...(hasConditions ? [h.conditions.map(([parent, values]) =>
      `${parent} is ${values.map((v) => format(v)).join(" or ")}`).join(" and ")] : []),
    ...(hasRoles ? [h.role] : []),
  ]);
  return make("div", { class: "scroll", role: "region", "aria-label": "Search space", tabindex: "0" },
    make("table", {},
      make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
      make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map((text, c) =>
        (c ? make("td", {}, user(text)) : make("th", { scope: "row" }, user(text)))))))));
}

function showOrigin(origin, index) {
  const runs = trials.filter((trial) => trial.runs.some((run) => run.origin === index));
  const versions = Object.entries(origin.versions).map(([name, version]) => `${name} ${version}`);
  return make("div", { class: "origin" },
    origin.reproduction ? command(origin.reproduction)
      : make("p", {}, "The command was not recorded."),
    definitions([
      ["trials", runs.length === trials.length ? "all" : user(runs.map((trial) => trial.id).join(", "))],
      ["commit", origin.commit && make("code", {}, origin.commit)],
      ["versions", versions.join(", ")],
      ["machine", [origin.host, origin.platform].filter(Boolean).join(", ")],
      ["new files", origin.untracked.length ? user(origin.untracked.join(", ")) : null],
    ]),
    origin.diff ? make("details", {},
      make("summary", {}, `Uncommitted changes${origin.isCut ? ", cut: run.json has all of them" : ""}`),
      make("pre", { dir: "ltr", tabindex: "0" }, origin.diff)) : null);
}
