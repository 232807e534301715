"use strict";
// The trajectory browser. Data reaches the page through textContent and nothing else: no text of a
// model or an environment is ever parsed as HTML.
(() => {
  const root = document.getElementById("browser");
  if (!root) return;
  const data = JSON.parse(document.getElementById("data").textContent);
  const filters = { outcome: "", type: "", verdict: "", split: "" };
  const verdicts = {
    errors: ["with an error", (t) => t.errors > 0],
    corrections: ["with a correction", (t) => t.corrections > 0],
    clean: ["without errors", (t) => t.errors === 0],
  };
  const legends = {
    golden: ["Made by the environment's expert. ", "Marked text", " is trained; the task and what the environment answers never are."],
    kept: ["Made by student and teacher, and kept for training. ", "Marked text", " is trained. What the teacher flagged as an error stays in the context with its own loss weight, usually 0."],
    dropped: ["Not kept for training: nothing of it is trained.", "", ""],
    evaluation: ["An unaided roll-out for evaluation: nothing of it is trained.", "", ""],
  };
  let group = data.groups[0];
  let shown = [];
  let current = null;

  const words = (name) => String(name).replaceAll("_", " ");

  function el(tag, className, ...children) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    for (const child of children) {
      if (child !== null && child !== undefined && child !== "") node.append(child);
    }
    return node;
  }

  // -- filters ------------------------------------------------------------------------------------

  function choice(label, options, value, onChange) {
    const select = el("select");
    for (const [key, text] of options) {
      const option = el("option", "", text);
      option.value = key;
      option.selected = key === value;
      select.append(option);
    }
    select.addEventListener("change", () => onChange(select.value));
    return el("label", "", label, select);
  }

  const ending = (t) => t.reason || t.outcome;

  function options(all, name) {
    const counts = new Map();
    for (const t of group.trajectories) counts.set(name(t), (counts.get(name(t)) || 0) + 1);
    const keys = [...counts.keys()].sort();
    return [["", all], ...keys.map((key) => [key, `${words(key)} (${counts.get(key)})`])];
  }

  function matches(t) {
    return (
      (!filters.outcome || ending(t) === filters.outcome) &&
      (!filters.type || t.type === filters.type) &&
      (!filters.split || t.split === filters.split) &&
      (!filters.verdict || verdicts[filters.verdict][1](t))
    );
  }

  function drawFilters() {
    const bar = el("div", "filters");
    const stages = data.groups.map((g) => [g.key, `${g.label} (${g.total.toLocaleString("en")})`]);
    bar.append(choice("Stage", stages, group.key, (key) => open(data.groups.find((g) => g.key === key))));
    const add = (label, field, all, name) => {
      const found = options(all, name);
      if (found.length > 2) {
        bar.append(choice(label, found, filters[field], (value) => { filters[field] = value; draw(); }));
      }
    };
    add(group.kind === "dropped" ? "Reason" : "Outcome", "outcome", "all", ending);
    add("Task type", "type", "all", (t) => t.type);
    add("Split", "split", "all", (t) => t.split);
    if (group.trajectories.some((t) => t.errors)) {
      const found = Object.entries(verdicts).map(([key, [text]]) => [key, text]);
      bar.append(choice("Verdicts", [["", "all"], ...found], filters.verdict, (value) => { filters.verdict = value; draw(); }));
    }
    return bar;
  }

  // -- list ---------------------------------------------------------------------------------------

  const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

  function badge(t) {
    return el("span", `badge ${t.reason ? "bad" : t.success ? "good" : ""}`, words(ending(t)));
  }

  function drawList() {
    const list = el("div", "list");
    for (const t of shown) {
      const about = [plural(t.turns.length, "turn")];
      if (t.errors) about.push(plural(t.errors, "error") + (t.corrections === t.errors ? " corrected" : ""));
      const button = el(
        "button", "",
        el("span", "title", t.goal || t.task),
        el("span", "about", words(t.type)),
        el("span", "about", badge(t), ` ${about.join(" · ")}`),
      );
      button.type = "button";
      button.setAttribute("aria-current", String(t === current));
      button.addEventListener("click", () => select(t, true));
      list.append(button);
    }
    if (!shown.length) list.append(el("p", "absent", "Nothing matches."));
    return list;
  }

  // -- detail -------------------------------------------------------------------------------------

  function said(turn, trained) {
    const kind = trained === null ? "" : trained ? "trained" : "untrained";
    const list = el("dl", "said");
    const add = (label, text, className, marked) => {
      if (!text) return;
      const words = el("span", marked ? "words" : "", text);
      list.append(el("dt", "", label), el("dd", `text ${className} ${marked ? kind : ""}`, words));
    };
    add("Thought", turn.thought, "", true);
    add("Action", turn.action || "(none)", "act", true);
    add("Observation", turn.observation, "observation", false);
    return list;
  }

  function review(parts) {
    const list = el("dl");
    const add = (label, text, className) => {
      if (text) list.append(el("dt", "", label), el("dd", `text ${className || ""}`, text));
    };
    add("Kind", parts.kind && words(parts.kind));
    add("Error", parts.error);
    add("Reason", parts.reason);
    add("Reflection", parts.reflection);
    add("Corrected thought", parts.thought, "fix");
    add("Corrected action", parts.action, "fix mono");
    return el("div", "review", list);
  }

  function card(turn, number, trainable) {
    const weight = turn.weight || 0;
    const head = el("div", "turn-head", el("span", "number", `Turn ${number}`), el("span", "badge", turn.author));
    if (turn.verdict === "error") head.append(el("span", "badge bad", "error"));
    if (turn.verdict === "correction") head.append(el("span", "badge good", "correction"));
    if (turn.executed === false) head.append(el("span", "badge", "vetoed, not executed"));
    else if (turn.valid === false) head.append(el("span", "badge bad", "invalid action"));
    if (turn.reward) head.append(el("span", "badge good", `reward ${turn.reward}`));
    if (trainable) {
      const text = weight === 1 ? "trained" : weight ? `trained, weight ${weight}` : "not trained, weight 0";
      head.append(el("span", "weight", text));
    }
    const node = el("article", `turn ${turn.verdict === "correct" ? "" : turn.verdict}`, head);
    node.append(said(turn, trainable ? weight > 0 : null));
    if (turn.review) node.append(review(turn.review));
    return node;
  }

  function given(title, text, isOpen) {
    const node = el("details", "given", el("summary", "", title), el("div", "text", text));
    node.open = isOpen;
    return node;
  }

  function drawDetail() {
    const t = current;
    const trainable = group.kind === "golden" || group.kind === "kept";
    const at = shown.indexOf(t);
    const move = (text, by) => {
      const button = el("button", "step", text);
      button.type = "button";
      button.disabled = !shown[at + by];
      button.addEventListener("click", () => select(shown[at + by], true));
      return button;
    };
    const head = el("div", "detail-head", el("h3", "", t.goal || words(t.type) || "Trajectory"), badge(t));
    if (t.reason && t.reason !== t.outcome) head.append(el("span", "badge", `ended as ${words(t.outcome)}`));
    head.append(el("div", "buttons", move("Previous", -1), move("Next", 1)));
    const facts = [
      words(t.type), t.task, t.split, `reward ${t.reward}`, `id ${t.id}`,
      ...Object.entries(t.facts).map(([name, value]) => `${name} ${value}`),
    ];
    const [before, mark, after] = legends[group.kind];
    const legend = el("p", "legend", before);
    if (mark) legend.append(el("span", "trained", el("span", "words", mark)), after);
    const detail = el("div", "detail", head, el("p", "meta", facts.join(" · ")));
    if (t.detail) detail.append(el("p", "meta", `What happened: ${t.detail}`));
    detail.append(
      legend,
      given("Instruction", data.instructions[t.instruction], false),
      given("First observation", t.first, true),
      ...t.turns.map((turn, index) => card(turn, index + 1, trainable)),
    );
    return detail;
  }

  // -- state --------------------------------------------------------------------------------------

  function draw(focusDetail) {
    shown = group.trajectories.filter(matches);
    if (!shown.includes(current)) current = shown[0] || null;
    const scrolled = root.querySelector(".list")?.scrollTop || 0;
    const list = drawList();
    const detail = current ? drawDetail() : el("div", "detail");
    const few = group.trajectories.length < group.total ? ", chosen evenly over outcomes and task types" : "";
    const count = `${shown.length} of ${group.total.toLocaleString("en")} shown${few}.`;
    root.replaceChildren(drawFilters(), el("p", "shown", count), el("div", "browser", list, detail));
    list.scrollTop = scrolled;
    const chosen = list.querySelector('[aria-current="true"]');
    if (focusDetail && chosen) {
      chosen.focus({ preventScroll: true });
      chosen.scrollIntoView({ block: "nearest" });
    }
  }

  function open(next) {
    group = next;
    current = null;
    for (const name of Object.keys(filters)) filters[name] = "";
    draw();
  }

  function select(t, remember) {
    if (!t) return;
    current = t;
    if (remember) history.replaceState(null, "", `#t-${t.id}`);
    draw(true);
  }

  // A link to the page can name a trajectory: index.html#t-ID.
  function follow() {
    const id = location.hash.startsWith("#t-") ? location.hash.slice(3) : "";
    const home = id && data.groups.find((g) => g.trajectories.some((t) => t.id === id));
    if (!home) return;
    open(home);
    select(home.trajectories.find((t) => t.id === id), false);
    root.scrollIntoView();
  }

  open(data.groups[0]);
  follow();
  addEventListener("hashchange", follow);
})();
