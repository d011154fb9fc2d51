// The selected trials as a table, sorted by any of its columns.

const NOTHING = "–";

class Table {
  constructor() {
    const hasEpochs = data.outcomes[model.metric][model.direction].some(([, , epoch]) => epoch !== null);
    this.columns = [
      { name: "trial", text: (i) => trials[i].id, key: (i) => i },
      {
        name: () => model.metric, isNumber: true,
        text: (i) => format(this.objective(i) ?? NOTHING),
        key: (i) => (this.objective(i) === null ? null : sign() * this.objective(i)),
      },
      ...(hasEpochs ? [{
        name: "best epoch", isNumber: true,
        text: (i) => format(this.epoch(i) ?? NOTHING),
        key: (i) => this.epoch(i),
      }] : []),
      ...data.axes.map(({ hyperparameter: k, categories }) => ({
        name: data.hyperparameters[k].name, isNumber: !categories,
        text: (i) => format(trials[i].values[k] ?? NOTHING),
        key: (i) => trials[i].values[k],
      })),
      { name: "status", text: (i) => model.outcomes[i].status, key: (i) => model.outcomes[i].status },
    ];
    this.sorted = { column: 1, isDescending: false };
    this.buttons = this.columns.map((_, c) =>
      make("button", { type: "button", onclick: () => this.sort(c) }));
    this.heads = this.columns.map((column, c) =>
      make("th", { scope: "col", class: column.isNumber ? "number" : "" }, this.buttons[c]));
    this.body = make("tbody");
    this.element = make("table", {},
      make("caption", { class: "hidden" }, "Trials; the buttons in the first row sort them"),
      make("thead", {}, make("tr", {}, ...this.heads)), this.body);
  }

  objective(i) {
    return model.outcomes[i].status === "completed" ? model.outcomes[i].value : null;
  }

  // Keras prints epochs from 1.
  epoch(i) {
    return model.outcomes[i].epoch === null ? null : model.outcomes[i].epoch + 1;
  }

  sort(column) {
    const isSame = this.sorted.column === column;
    this.sorted = { column, isDescending: isSame && !this.sorted.isDescending };
    this.order();
  }

  layout() {
    this.columns.forEach((column, c) => {
      const name = typeof column.name === "function" ? column.name() : column.name;
      this.buttons[c].replaceChildren(breakable(shorten(name, 48)));
      this.buttons[c].title = name;
    });
    this.rows = trials.map((trial, i) => {
      const cells = this.columns.map((column, c) => {
        const text = column.text(i);
        if (c === 0) {
          return make("th", { scope: "row" },
            make("button", { type: "button", onclick: () => openTrial(i) }, user(text)));
        }
        return make("td", { class: column.isNumber ? "number" : "", title: text.length > 24 ? text : null },
          user(shorten(text, 40)));
      });
      return make("tr", {
        onpointerenter: () => focusTrial(i),
        onpointerleave: () => focusTrial(null),
        onclick: () => openTrial(i),
      }, ...cells);
    });
    this.order();
  }

  // Trials without the number stand last, whichever way it is sorted.
  order() {
    const { column, isDescending } = this.sorted;
    const keys = trials.map((_, i) => this.columns[column].key(i));
    const compare = (a, b) => {
      const [one, other] = [keys[a], keys[b]];
      if (one === null || other === null) return Number(one === null) - Number(other === null);
      const order = typeof one === "string" || typeof other === "string"
        ? String(one).localeCompare(String(other)) : one - other;
      return isDescending ? -order : order;
    };
    const indices = trials.map((_, i) => i).sort((a, b) => compare(a, b) || a - b);
    this.heads.forEach((head, c) => {
      if (c === column) head.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.body.replaceChildren(...indices.map((i) => this.rows[i]));
  }

  select() {
    this.rows.forEach((row, i) => {
      row.hidden = !model.selected[i];
      row.className = [MEDALS[model.ranks[i]] ?? "", model.outcomes[i].status].join(" ").trim();
      row.classList.toggle("opened", model.opened === i);
    });
  }

  focus() {
    this.rows.forEach((row, i) => row.classList.toggle("focused", model.focused === i));
  }

  open() {
    this.rows.forEach((row, i) => row.classList.toggle("opened", model.opened === i));
  }
}
