// The findings: what asks for something to be done first, then what cannot be told, then the rest.

const VERDICTS = [
  ["act", "To do"],
  ["unknown", "Cannot be told yet"],
  ["ok", "Passed"],
];

function showVerdicts() {
  byId("next").textContent = data.diagnosis.next;
  for (const [verdict, title] of VERDICTS) {
    const found = data.diagnosis.findings.filter((finding) => finding.verdict === verdict);
    if (!found.length) continue;
    const list = make("ul", { class: `findings ${verdict}` }, ...found.map(showFinding));
    const heading = `${title} (${found.length})`;
    byId("findings").append(verdict === "act"
      ? make("div", {}, make("h3", {}, heading), list)
      : make("details", {}, make("summary", {}, heading), list));
  }
}

function showFinding(finding) {
  const known = finding.trials.length > 0;
  return make("li", {},
    make("span", { class: "source" }, finding.source),
    make("span", { dir: "auto" },
      finding.remedy ? `${finding.evidence}: ` : finding.evidence, make("strong", {}, finding.remedy), " ",
      known ? make("button", {
        type: "button", class: "quiet", onclick: () => {
          pick(finding.source, finding.trials);
          byId("pictures").scrollIntoView();
        },
      }, `Show ${finding.trials.length === 1 ? "the trial" : `the ${finding.trials.length} trials`}`) : null));
}
