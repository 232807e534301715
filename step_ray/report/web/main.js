// Views, keys and the address: #trajectories?stage=…&id=… leads back to what is shown.
(() => {
  const { el, filters, list, meta } = stepRay;
  const overview = document.getElementById("overview");
  const explorer = document.getElementById("explorer");
  const detail = el("article", "detail");
  let view = "turns";
  let started = false;

  // -- the explorer -------------------------------------------------------------------------------

  function refresh() {
    const { found, counts } = filters.apply();
    list.sort(found);
    filters.draw(counts);
    if (list.current === null || !list.rows.includes(list.current)) {
      list.current = list.rows.length && !narrow() ? list.rows[0] : null;
    }
    list.turnTo(list.current);
    list.draw(choose, turn);
    show();
  }

  function turn(page) {
    list.page = Math.max(0, Math.min(page, list.pages() - 1));
    list.draw(choose, turn);
  }

  function choose(row, focus = false) {
    list.current = row;
    const before = list.page;
    list.turnTo(row);
    if (list.page !== before) list.draw(choose, turn);
    list.mark(focus);
    show();
  }

  function move(by) {
    const next = list.rows[list.current === null ? 0 : list.rows.indexOf(list.current) + by];
    if (next !== undefined) choose(next, true);
  }

  const narrow = () => matchMedia("(max-width: 899px)").matches;

  async function show() {
    const row = list.current;
    explorer.classList.toggle("reading", row !== null);
    remember();
    if (row === null) {
      detail.replaceChildren(el("p", "absent", stepRay.columns ? "No trajectory is chosen." : "Loading …"));
      return;
    }
    let found;
    try {
      found = await stepRay.trajectory(row);
    } catch (error) {
      detail.replaceChildren(el("p", "problem", error.message));
      return;
    }
    if (row !== list.current) return;
    stepRay.drawDetail(detail, row, found, view, {
      move,
      has: (by) => list.rows[list.rows.indexOf(row) + by] !== undefined,
      toggle: toggleTokens,
      close: () => {
        list.current = null;
        show();
        list.draw(choose, turn);
      },
    });
    detail.scrollTop = 0;
    if (narrow()) scrollTo(0, 0);
    detail.dataset.shown = stepRay.columns.id[row];
  }

  function toggleTokens() {
    view = view === "tokens" ? "turns" : "tokens";
    show();
  }

  function problem(error) {
    explorer.replaceChildren(el("p", "problem", error.message));
  }

  function start() {
    if (started) return;
    started = true;
    explorer.append(filters.build(refresh), el("div", "panes", list.build(refresh), detail));
    if (!meta.total) {
      explorer.replaceChildren(el("p", "absent", "No trajectory is part of this run."));
      return;
    }
    const wanted = new URLSearchParams(location.hash.split("?")[1] || "");
    stepRay.loadIndex(() => {
      restore(wanted);
      refresh();
      performance.mark("step-ray-index");
    }).then(() => performance.mark("step-ray-index-whole"), problem);
  }

  // -- the address --------------------------------------------------------------------------------

  function remember() {
    const parts = new URLSearchParams();
    for (const name of ["q", ...filters.names]) if (filters.get(name)) parts.set(name, filters.get(name));
    if (list.order !== "order") parts.set("sort", list.order);
    if (list.reversed) parts.set("reversed", "1");
    if (list.current !== null) parts.set("id", stepRay.columns.id[list.current]);
    if (view === "tokens") parts.set("view", view);
    if (!explorer.hidden) history.replaceState(null, "", `#trajectories${String(parts) && "?"}${parts}`);
  }

  function restore(parts) {
    for (const name of ["q", ...filters.names]) if (parts.has(name)) filters.set(name, parts.get(name));
    if (list.knows(parts.get("sort"))) list.order = parts.get("sort");
    if (parts.has("reversed")) list.reversed = true;
    if (parts.has("view")) view = parts.get("view") === "tokens" ? "tokens" : "turns";
    if (!parts.has("id")) return;
    const row = stepRay.columns.id.indexOf(parts.get("id"));
    if (row >= 0) list.current = row;
  }

  function follow() {
    const exploring = location.hash.startsWith("#trajectories");
    explorer.hidden = !exploring;
    overview.hidden = exploring;
    document.body.classList.toggle("exploring", exploring);
    for (const link of document.querySelectorAll(".top nav a")) {
      const mine = link.hash === "#trajectories";
      if (mine === exploring) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (exploring && started && stepRay.columns) {
      const parts = location.hash.split("?")[1];
      if (parts) filters.clear();
      restore(new URLSearchParams(parts || ""));
      refresh();
    } else if (exploring) start();
    else if (location.hash.length > 1) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  }

  // -- keys ---------------------------------------------------------------------------------------

  const go = (hash) => { location.hash = hash; };
  const KEYS = [
    ["o", "the overview", () => go("#overview"), true],
    ["l", "the trajectories", () => go("#trajectories"), true],
    ["/", "find", () => filters.focus()],
    ["x", "clear find and filters", () => { filters.clear(); refresh(); }],
    ["j", "next trajectory", () => move(1)],
    ["k", "previous trajectory", () => move(-1)],
    ["]", "next page of the list", () => turn(list.page + 1)],
    ["[", "previous page of the list", () => turn(list.page - 1)],
    ["n", "next error or correction", () => stepRay.nextFlagged(1)],
    ["p", "previous error or correction", () => stepRay.nextFlagged(-1)],
    ["t", "turns or tokens", () => { if (list.current !== null && stepRay.columns.tokens[list.current] >= 0) toggleTokens(); }],
    ["?", "these keys", () => keys.showModal(), true],
  ];
  const keys = el("dialog", "keys", el("h2", "", "Keys"), el("dl", "", ...KEYS.flatMap(([key, what]) => [
    el("dt", "", el("kbd", "", key)), el("dd", "", what),
  ])), el("p", "note", "Arrow keys go through the list as j and k do. Escape leaves the field, or closes this."));
  const done = stepRay.button("", () => keys.close(), "Close");
  keys.append(done);
  document.body.append(keys);
  const opener = document.getElementById("show-keys");
  opener.hidden = false;
  opener.addEventListener("click", () => keys.showModal());

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
    const writing = event.target.matches("input, select, textarea");
    if (event.key === "Escape" && writing) {
      event.preventDefault(); // some browsers would empty the field
      event.target.blur();
    }
    if (writing) return;
    let { key } = event;
    if (event.target.matches(".row")) key = { ArrowDown: "j", ArrowUp: "k" }[key] || key;
    const found = KEYS.find(([wanted]) => wanted === key);
    if (!found || (!found[3] && (explorer.hidden || !stepRay.columns))) return;
    event.preventDefault();
    found[2]();
  });

  addEventListener("hashchange", follow);
  follow();
})();
