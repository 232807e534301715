// One trajectory: what student and teacher said, what the environment answered, what is trained.
(() => {
  const { el, words, pairs, plural } = stepRay;

  const LEGENDS = {
    golden: "Made by the environment's expert. What the agent says is trained; the task and what the environment answers never are.",
    kept: "Made by student and teacher, and kept for training. What the teacher flagged as an error stays in the context with its own loss weight, usually 0.",
    dropped: "Not kept for training: nothing of it is trained.",
    material: "Made for others to be chosen from: pairs of which one is preferred (ETO), or turns with weights of their own (STeCa). What is trained of it is in the run's pairs and chosen parts; no weights are shown here.",
    evaluation: "An unaided roll-out for evaluation: nothing of it is trained.",
  };
  const trainable = (group) => group.kind === "golden" || group.kind === "kept";

  function review(parts) {
    const node = el("div", "review", pairs("", [
      ["Kind", parts.kind && words(parts.kind)],
      ["Error", parts.error],
      ["Reason", parts.reason],
      ["Reflection", parts.reflection],
      ["Corrected thought", parts.thought, "fix"],
      ["Corrected action", parts.action, "fix mono"],
    ]));
    if (parts.raw) node.append(given("The teacher's reply as it came", parts.raw, false));
    return node;
  }

  function given(title, text, isOpen) {
    const node = el("details", "given", el("summary", "", title), el("div", "text", text));
    node.open = isOpen;
    return node;
  }

  function card(turn, number, trained) {
    const weight = turn.weight || 0;
    const head = el("div", "gutter", el("span", "number", String(number)), el("span", `author ${turn.author}`, turn.author));
    if (turn.seconds) head.append(el("span", "time", stepRay.seconds(turn.seconds)));
    const badges = el("div", "badges");
    if (turn.verdict === "error") badges.append(el("span", "badge bad", "error"));
    if (turn.verdict === "correction") badges.append(el("span", "badge good", "correction"));
    if (turn.executed === false) badges.append(el("span", "badge", "vetoed, not executed"));
    else if (turn.valid === false) badges.append(el("span", "badge bad", "invalid action"));
    if (turn.reward) badges.append(el("span", "badge good", `reward ${turn.reward}`));
    if (trained && weight !== 1) {
      badges.append(el("span", "badge weight", weight ? `trained with weight ${weight}` : "not trained, weight 0"));
    }
    const said = el("div", `said ${trained ? (weight ? "trained" : "untrained") : ""}`);
    if (turn.thought) said.append(el("p", "text thought", turn.thought));
    said.append(el("p", "text act", turn.action || "(no action)"));
    const content = el("div", "content");
    if (badges.childNodes.length) content.append(badges);
    content.append(said);
    if (turn.observation) content.append(el("p", "text observation", turn.observation));
    if (turn.review) content.append(review(turn.review));
    const node = el("article", `turn ${turn.verdict}`, head, content);
    node.id = `turn-${number}`;
    node.tabIndex = -1;
    node.setAttribute("aria-label", `Turn ${number}, ${turn.author}, ${turn.verdict}`);
    return node;
  }

  // The whole episode at a glance: a mark for each turn that leads there.
  function strip(turns) {
    const node = el("nav", "strip");
    node.setAttribute("aria-label", "Turns");
    turns.forEach((turn, index) => {
      const flagged = turn.verdict !== "correct" ? turn.verdict : turn.valid === false ? "invalid" : "";
      const mark = stepRay.button(flagged, () => goTo(index + 1), String(index + 1));
      const what = flagged || turn.verdict;
      mark.title = `${index + 1}: ${what}: ${turn.action}`;
      mark.setAttribute("aria-label", `Turn ${index + 1}, ${what}`);
      node.append(mark);
    });
    return node;
  }

  function goTo(number) {
    const node = document.getElementById(`turn-${number}`);
    if (!node) return;
    node.focus({ preventScroll: true });
    node.scrollIntoView({ block: "start" });
  }

  // The next (or last) turn after the focused one that somebody flagged.
  stepRay.nextFlagged = (by) => {
    const all = [...document.querySelectorAll(".turn")];
    const here = all.indexOf(document.activeElement?.closest(".turn"));
    const flagged = all.map((node, index) => [node, index]).filter(([node]) => node.matches(".error, .correction"));
    const next = by > 0
      ? flagged.find(([, index]) => index > here)
      : flagged.reverse().find(([, index]) => here < 0 || index < here);
    if (next) goTo(next[1] + 1);
  };

  function facts(row) {
    const { reward, turns, errors, corrections, seconds, id } = stepRay.columns;
    const parts = [
      stepRay.group(row).label, words(stepRay.named("type", row)), stepRay.named("split", row),
      `reward ${reward[row]}`, plural(turns[row], "turn"),
    ];
    if (errors[row]) parts.push(`${plural(errors[row], "error")}, ${plural(corrections[row], "correction")}`);
    if (seconds[row]) parts.push(`${stepRay.seconds(seconds[row])} in the environment`);
    return el("p", "meta", parts.join(" · "), " · ", el("code", "", id[row]));
  }

  // Fills a node with a trajectory, as turns or as tokens; `act` has what its buttons do.
  stepRay.drawDetail = (node, row, t, view, act) => {
    const group = stepRay.group(row);
    const { goal, tokens } = stepRay.columns;
    const step = (label, key, action, enabled) => {
      const button = stepRay.button("", action, `${label} `, el("kbd", "", key));
      button.disabled = !enabled;
      return button;
    };
    const title = el("h2", "", goal[row] || words(stepRay.named("type", row)) || "Trajectory");
    const badges = el("div", "badges", stepRay.badge(row));
    if (stepRay.named("reason", row) && stepRay.named("reason", row) !== stepRay.named("outcome", row)) {
      badges.append(el("span", "badge", `ended as ${words(stepRay.named("outcome", row))}`));
    }
    const buttons = el("div", "buttons",
      stepRay.button("back", act.close, "‹ All"),
      step("Previous", "k", () => act.move(-1), act.has(-1)),
      step("Next", "j", () => act.move(1), act.has(1)),
    );
    if (tokens[row] >= 0) {
      const toggle = step("Tokens", "t", act.toggle, true);
      toggle.setAttribute("aria-pressed", String(view === "tokens"));
      buttons.append(toggle);
    }
    node.replaceChildren(el("header", "detail-head", buttons, title, badges, facts(row)));
    if (t.detail) node.append(el("p", "note", `What happened: ${t.detail}`));
    if (view === "tokens" && tokens[row] >= 0) {
      const place = el("div", "tokens", el("p", "absent", "Loading …"));
      node.append(place);
      stepRay.drawTokens(place, tokens[row]);
      return;
    }
    const why = el("details", "given", el("summary", "", "Provenance"), pairs("provenance", Object.entries(t.facts)));
    node.append(
      strip(t.turns),
      el("p", `legend ${group.kind}`, LEGENDS[group.kind]),
      given("Instruction", t.instruction, false),
      why,
      given("First observation", t.first, true),
      ...t.turns.map((turn, index) => card(turn, index + 1, trainable(group))),
    );
  };
})();
