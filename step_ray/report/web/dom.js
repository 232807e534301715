"use strict";
// What all parts of the page share. Data reaches the page through text nodes and nothing else: no
// text of a model or an environment is ever parsed as HTML.
const stepRay = {};
globalThis.stepRay = stepRay;

stepRay.el = (tag, className, ...children) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  for (const child of children) {
    if (child !== null && child !== undefined && child !== "") node.append(child);
  }
  return node;
};

stepRay.button = (className, action, ...children) => {
  const node = stepRay.el("button", className, ...children);
  node.type = "button";
  node.addEventListener("click", action);
  return node;
};

// Pairs of [name, text] as a list of definitions; a pair without text is left out.
stepRay.pairs = (className, entries) => {
  const list = stepRay.el("dl", className);
  for (const [name, value, css] of entries) {
    if (!value) continue;
    list.append(stepRay.el("dt", "", name), stepRay.el("dd", `text ${css || ""}`, value));
  }
  return list;
};

stepRay.words = (name) => String(name).replaceAll("_", " ");
stepRay.count = (n) => n.toLocaleString("en");
stepRay.plural = (n, word) => `${stepRay.count(n)} ${word}${n === 1 ? "" : "s"}`;
stepRay.percent = (share) => `${(100 * share).toFixed(1)} %`;

stepRay.seconds = (value) => {
  if (value < 0.0995) return `${(1000 * value).toFixed(value < 0.00995 ? 1 : 0)} ms`;
  return value < 99.5 ? `${value.toFixed(value < 9.95 ? 2 : 1)} s` : `${Math.round(value)} s`;
};
