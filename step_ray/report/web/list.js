// The trajectories that match, sorted, a page at a time.
(() => {
  const { el, count, plural, words } = stepRay;
  const PAGE = 100;
  const ORDERS = {
    order: ["as made", (row) => row],
    errors: ["errors", (row) => -stepRay.columns.errors[row]],
    turns: ["turns", (row) => -stepRay.columns.turns[row]],
    reward: ["reward", (row) => -stepRay.columns.reward[row]],
    seconds: ["time in the environment", (row) => -stepRay.columns.seconds[row]],
    type: ["task type", (row) => stepRay.named("type", row)],
    goal: ["goal", (row) => stepRay.columns.goal[row] || stepRay.columns.task[row]],
  };
  const list = { rows: [], page: 0, order: "order", reversed: false, current: null };
  stepRay.list = list;
  let body;
  let pager;
  let select;
  let direction;

  list.build = (onChange) => {
    select = el("select");
    for (const [key, [label]] of Object.entries(ORDERS)) {
      const option = el("option", "", label);
      option.value = key;
      select.append(option);
    }
    select.addEventListener("change", () => {
      list.order = select.value;
      onChange();
    });
    direction = stepRay.button("quiet", () => {
      list.reversed = !list.reversed;
      onChange();
    });
    body = el("ol", "rows");
    pager = el("div", "pager");
    return el("div", "list", el("div", "list-head", el("label", "", "Sorted by ", select), direction), body, pager);
  };

  list.sort = (found) => {
    const key = (ORDERS[list.order] || ORDERS.order)[1];
    const keys = new Map(found.map((row) => [row, key(row)]));
    const sign = list.reversed ? -1 : 1;
    list.rows = found.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      return sign * (x < y ? -1 : x > y ? 1 : a - b);
    });
  };

  list.knows = (order) => order in ORDERS;

  // Turns to the page that a trajectory is on; to the first if it is on none.
  list.turnTo = (row) => {
    const at = list.rows.indexOf(row);
    list.page = at < 0 ? 0 : Math.floor(at / PAGE);
  };

  list.pages = () => Math.max(1, Math.ceil(list.rows.length / PAGE));

  stepRay.ending = (row) => stepRay.named("reason", row) || stepRay.named("outcome", row);

  stepRay.badge = (row) => {
    const reason = stepRay.named("reason", row);
    const good = !reason && stepRay.named("outcome", row) === "success";
    return el("span", `badge ${reason ? "bad" : good ? "good" : ""}`, words(stepRay.ending(row)));
  };

  const item = (row, onSelect) => {
    const { goal, task, turns, errors, corrections, reward } = stepRay.columns;
    const about = [words(stepRay.named("type", row)), plural(turns[row], "turn")];
    if (errors[row]) about.push(plural(errors[row], "error"));
    if (corrections[row] && corrections[row] !== errors[row]) about.push(plural(corrections[row], "correction"));
    const button = stepRay.button(
      "row", () => onSelect(row),
      el("span", "title", goal[row] || task[row]),
      el("span", "reward", reward[row].toFixed(2)),
      el("span", "about", stepRay.badge(row), " ", about.join(" · ")),
    );
    button.dataset.row = row;
    if (row === list.current) button.setAttribute("aria-current", "true");
    return el("li", "", button);
  };

  list.draw = (onSelect, onPage) => {
    select.value = list.order;
    direction.textContent = list.reversed ? "↑ reversed" : "↓";
    direction.title = "Reverse the order";
    direction.setAttribute("aria-label", direction.title);
    direction.setAttribute("aria-pressed", String(list.reversed));
    list.page = Math.min(list.page, list.pages() - 1);
    const first = list.page * PAGE;
    const shown = list.rows.slice(first, first + PAGE);
    body.replaceChildren(...shown.map((row) => item(row, onSelect)));
    body.scrollTop = 0;
    if (!shown.length) body.append(el("li", "absent", stepRay.columns ? "Nothing matches." : "Loading …"));
    const turn = (label, name, by) => {
      const button = stepRay.button("quiet", () => onPage(list.page + by), label);
      button.setAttribute("aria-label", name);
      button.disabled = list.page + by < 0 || list.page + by >= list.pages();
      return button;
    };
    const all = stepRay.meta.groups.reduce((sum, group) => sum + group.total, 0);
    const range = shown.length ? `${count(first + 1)}–${count(first + shown.length)} of ${count(list.rows.length)}` : "0";
    const few = stepRay.meta.total < all ? ` (the page has ${count(stepRay.meta.total)} of ${count(all)}, chosen evenly)` : "";
    const said = el("span", "", range + few);
    said.setAttribute("role", "status");
    pager.replaceChildren(turn("‹", "Previous page", -1), said, turn("›", "Next page", 1));
    list.mark(false);
  };

  // Shows which one is looked at; the keyboard goes there if it is asked to.
  list.mark = (focus) => {
    for (const button of body.querySelectorAll("[aria-current]")) button.removeAttribute("aria-current");
    const button = body.querySelector(`[data-row="${Number(list.current)}"]`);
    if (list.current === null || !button) return;
    button.setAttribute("aria-current", "true");
    if (focus) button.focus({ preventScroll: true });
    button.scrollIntoView({ block: "nearest" });
  };
})();
