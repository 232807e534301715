// What is shown: a value for each facet, and words. Facets know how many trajectories each of their
// values would leave, given all the others.
(() => {
  const { el, meta, words } = stepRay;
  const state = { q: "" };
  const texts = [];

  // A facet's column has for each trajectory the number of its value, or a list of several.
  const named = (column) => ({
    column: () => stepRay.columns[column],
    label: (value) => words(meta.names[column][value] || "none"),
    key: (value) => meta.names[column][value],
    size: () => meta.names[column].length,
  });
  const VERDICTS = ["with an error", "with a correction", "with an invalid action", "without any of these"];
  const verdicts = [];
  const facets = {
    stage: {
      title: "Stage",
      column: () => stepRay.columns.group,
      label: (value) => meta.groups[value].label,
      key: (value) => meta.groups[value].key,
      size: () => meta.groups.length,
    },
    env: { title: "Environment", ...named("env") },
    type: { title: "Task type", ...named("type") },
    split: { title: "Split", ...named("split") },
    outcome: { title: "Outcome", ...named("outcome") },
    reason: { title: "Dropped because", ...named("reason") },
    verdict: {
      title: "Verdict",
      column: () => {
        const { errors, corrections, invalid } = stepRay.columns;
        for (let row = verdicts.length; row < errors.length; row += 1) {
          const found = [errors[row], corrections[row], invalid[row]].flatMap((n, value) => (n ? [value] : []));
          verdicts.push(found.length ? found : [3]);
        }
        return verdicts;
      },
      label: (value) => VERDICTS[value],
      key: (value) => ["error", "correction", "invalid", "clean"][value],
      size: () => VERDICTS.length,
    },
    kind: { title: "Kind of error", ...named("kinds") },
  };
  const names = Object.keys(facets);
  for (const name of names) state[name] = null;
  stepRay.filters = { state, names };

  const text = (row) => {
    if (texts[row] === undefined) {
      const { goal, task, id } = stepRay.columns;
      texts[row] = `${goal[row]}\n${task[row]}\n${id[row]}\n${words(stepRay.named("type", row))}`.toLowerCase();
    }
    return texts[row];
  };

  // The numbers of all trajectories that match; counts[name][value] is what choosing it would show.
  stepRay.filters.apply = () => {
    const wanted = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    const total = stepRay.columns ? stepRay.columns.id.length : 0;
    const all = names.map((name) => ({
      column: total ? facets[name].column() : [],
      chosen: state[name],
      counts: new Array(facets[name].size()).fill(0),
    }));
    const active = all.filter((facet) => facet.chosen !== null);
    const add = ({ column, counts }, row) => {
      const value = column[row];
      if (typeof value === "number") counts[value] += 1;
      else for (const one of value) counts[one] += 1;
    };
    const found = [];
    for (let row = 0; row < total; row += 1) {
      let fails = 0;
      let failing = null;
      for (const facet of active) {
        const value = facet.column[row];
        if (typeof value === "number" ? value === facet.chosen : value.includes(facet.chosen)) continue;
        fails += 1;
        failing = facet;
        if (fails > 1) break;
      }
      if (fails > 1 || (wanted.length && !wanted.every((word) => text(row).includes(word)))) continue;
      if (fails) add(failing, row); // it would be shown if only this facet had another value
      else {
        found.push(row);
        for (const facet of all) add(facet, row);
      }
    }
    return { found, counts: Object.fromEntries(names.map((name, at) => [name, all[at].counts])) };
  };

  stepRay.filters.set = (name, key) => {
    if (name === "q") state.q = key || "";
    else if (facets[name]) {
      const size = facets[name].size();
      const value = Array.from({ length: size }, (_, n) => n).find((n) => facets[name].key(n) === key);
      state[name] = key === null || key === undefined || value === undefined ? null : value;
    }
  };

  stepRay.filters.get = (name) => (name === "q" ? state.q : state[name] === null ? null : facets[name].key(state[name]));
  stepRay.filters.clear = () => {
    for (const name of names) state[name] = null;
    state.q = "";
  };
  stepRay.filters.any = () => Boolean(state.q) || names.some((name) => state[name] !== null);

  // -- the toolbar --------------------------------------------------------------------------------

  const selects = {};
  let search;
  let clear;

  stepRay.filters.build = (onChange) => {
    const bar = el("form", "filters");
    bar.setAttribute("role", "search");
    bar.addEventListener("submit", (event) => event.preventDefault());
    search = el("input");
    search.type = "search";
    search.placeholder = "goal, task or id";
    search.spellcheck = false;
    search.addEventListener("input", () => {
      state.q = search.value;
      onChange();
    });
    bar.append(el("label", "grow", el("span", "", "Find ", el("kbd", "", "/")), search));
    const more = stepRay.button("more", () => {
      const shown = bar.classList.toggle("whole");
      more.setAttribute("aria-expanded", String(shown));
    }, "Filters");
    more.setAttribute("aria-expanded", "false");
    bar.append(more);
    for (const name of names) {
      const select = el("select");
      select.name = name;
      select.addEventListener("change", () => {
        state[name] = select.value === "" ? null : Number(select.value);
        onChange();
      });
      selects[name] = select;
      bar.append(el("label", "", facets[name].title, select));
    }
    clear = stepRay.button("quiet", () => {
      stepRay.filters.clear();
      onChange();
    }, "Clear ", el("kbd", "", "x"));
    bar.append(clear);
    return bar;
  };

  stepRay.filters.draw = (counts) => {
    if (search.value !== state.q) search.value = state.q;
    clear.disabled = !stepRay.filters.any();
    for (const name of names) {
      const select = selects[name];
      const facet = facets[name];
      const values = Array.from({ length: facet.size() }, (_, value) => value)
        .filter((value) => facet.label(value) !== "none" || facet.key(value) !== "")
        .filter((value) => counts[name][value] || state[name] === value);
      if (name !== "stage" && name !== "verdict") values.sort((a, b) => facet.label(a).localeCompare(facet.label(b)));
      const option = (value, label) => {
        const node = el("option", "", label);
        node.value = value;
        return node;
      };
      select.replaceChildren(option("", "all"), ...values.map((value) => option(String(value), `${facet.label(value)} (${stepRay.count(counts[name][value])})`)));
      select.value = state[name] === null ? "" : String(state[name]);
      select.classList.toggle("on", state[name] !== null);
      // What cannot divide anything is not worth its place.
      select.parentElement.hidden = state[name] === null && (facet.size() < 2 || !values.length);
    }
  };

  stepRay.filters.focus = () => {
    search.focus();
    search.select();
  };
})();
