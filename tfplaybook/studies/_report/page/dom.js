// Making elements. Text is only ever set as text, so nothing in the data can become markup.

const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Text of the user's, which may run from right to left within a sentence that does not.
const user = (text) => make("bdi", {}, text);

// A name that may be broken after its separators.
const breakable = (name) => make("bdi", {},
  ...name.split(/(?<=[_/=])/).flatMap((part, i) => (i ? [make("wbr"), part] : [part])));

// A definition list of [term, description] pairs; those without a description are left out.
function definitions(pairs) {
  const rows = pairs.filter(([, value]) => value !== null && value !== "");
  return make("dl", {}, ...rows.map(([term, value]) =>
    make("div", {}, make("dt", {}, user(term)), make("dd", {}, value))));
}

// A command, with a button that copies it.
function command(text) {
  const code = make("code", { dir: "ltr" }, text);
  const button = make("button", { type: "button", class: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Without leave to write the clipboard the reader copies what is marked.
      getSelection().selectAllChildren(code);
      button.textContent = "Marked";
    }
  });
  return make("div", { class: "command" }, make("pre", { tabindex: "0" }, code), button);
}
