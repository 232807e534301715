// The mask audit of one trajectory: every token the model reads, coloured by whether it is trained.
(() => {
  const { el, count, percent } = stepRay;
  const MEANS = { "": "task, observations, template", correct: "correct turn", error: "error", correction: "correction" };

  function summary(stretches) {
    const rows = new Map();
    let total = 0;
    let trained = 0;
    for (const stretch of stretches) {
      const row = rows.get(stretch.verdict) || { tokens: 0, trained: 0, spans: 0 };
      row.tokens += stretch.ids.length;
      row.trained += stretch.weight > 0 ? stretch.ids.length : 0;
      row.spans += 1;
      rows.set(stretch.verdict, row);
      total += stretch.ids.length;
      trained += stretch.weight > 0 ? stretch.ids.length : 0;
    }
    const table = el("table", "plain");
    const head = el("tr");
    for (const name of ["Said in", "Spans", "Tokens", "Trained"]) head.append(el("th", "", name));
    table.append(el("thead", "", head));
    const body = el("tbody");
    for (const verdict of ["correct", "error", "correction", ""]) {
      const row = rows.get(verdict);
      if (!row) continue;
      body.append(el("tr", "",
        el("th", "", el("span", `swatch ${verdict || "context"} ${row.trained ? "on" : ""}`), MEANS[verdict]),
        el("td", "", count(row.spans)), el("td", "", count(row.tokens)), el("td", "", count(row.trained))));
    }
    table.append(body);
    return [el("p", "", `${count(total)} tokens, ${count(trained)} of them trained (${percent(trained / Math.max(1, total))}).`), table];
  }

  function stretchNode(stretch) {
    const on = stretch.weight > 0;
    const node = el("span", `stretch ${stretch.verdict || "context"} ${on ? "on" : ""}`);
    stretch.texts.forEach((text, index) => {
      // A line's end is shown, and still ends the line.
      const token = el("span", "token", text.replaceAll("\n", "⏎\n") || "∅");
      token.title = `id ${stretch.ids[index]} · weight ${stretch.weight}${stretch.verdict ? ` · ${stretch.verdict}` : ""}`;
      node.append(token);
    });
    return node;
  }

  stepRay.drawTokens = async (place, number) => {
    let view;
    try {
      view = await stepRay.load("tokens", number);
    } catch (error) {
      place.replaceChildren(el("p", "problem", error.message));
      return;
    }
    if (view.refused) {
      place.replaceChildren(el("p", "note", `Not trained: ${view.refused}`));
      return;
    }
    const about = stepRay.meta.tokenizer;
    const limit = about.maxLength ? `, at most ${count(about.maxLength)} tokens` : "";
    place.replaceChildren(
      ...summary(view.stretches),
      el("p", "note", `Tokenizer of ${about.tokenizer}${limit}; ${count(about.trajectories)} trajectories of this page are shown as tokens. Point at a token for its id and weight.`),
    );
    if (view.truncated) place.append(el("p", "problem", `The oldest ${stepRay.plural(view.truncated, "turn")} did not fit and are left out.`));
    place.append(el("div", "stream", ...view.stretches.map(stretchNode)));
  };
})();
