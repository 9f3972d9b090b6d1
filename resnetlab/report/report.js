"use strict";
// The table of all trials: sorted, filtered and opened here, a hundred rows at a time. Text goes in as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("trial-data").textContent);
  const table = document.getElementById("all"), form = document.getElementById("filter");
  const more = document.getElementById("more"), found = document.getElementById("found");
  const key = Object.fromEntries(data.columns.map((column, i) => [column[0], i]));
  const STEP = 100;
  let order = data.rows.map((_, i) => i), sort = {column: 0, down: false}, shown = STEP;

  const make = (tag, text, attributes) => {
    const element = document.createElement(tag);
    if (text !== undefined && text !== null) element.textContent = text;
    for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
    return element;
  };
  const compact = value => {
    for (const [size, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (Math.abs(value) >= size) return String(+(value / size).toPrecision(3)) + letter;
    return String(value);
  };
  const show = (value, kind) => {
    if (value === null || value === undefined) return "–";
    if (kind === "percent") return (100 * value).toFixed(2);
    if (kind === "measure") return String(+value.toPrecision(6));
    if (kind === "seconds") return value.toFixed(1);
    if (kind === "compact") return compact(value);
    if (kind === "status") return data.status[value] || value;
    if (typeof value === "boolean") return value ? "on" : "off";
    if (kind === "level" && typeof value === "number") return String(+value.toPrecision(4));
    return String(value);
  };
  const measured = kind => kind === "percent" || kind === "measure"; // of unequal budgets not to be compared
  const numeric = kind => !["text", "status", "level"].includes(kind);

  // What a search finds: `kernel=5`, a word of the row, or a part of the trial's id.
  const texts = [];
  const text = i => texts[i] ??= [
    data.ends[i][0],
    data.ends[i][1] || "",
    ...data.rows[i].map((value, c) => show(value, data.columns[c][2])),
    ...data.rows[i].map((value, c) => data.columns[c][0] + "=" + show(value, data.columns[c][2])),
  ].join("\n").toLowerCase();

  const full = i => data.rows[i][key.epochs_run] === data.ends[i][2];

  const select = () => {
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const phase = form.elements.phase.value, status = form.elements.status.value;
    order = [];
    data.rows.forEach((row, i) => {
      if (phase && row[key.phase] !== phase || status && row[key.status] !== status) return;
      if (words.every(word => text(i).includes(word))) order.push(i);
    });
    const c = sort.column, sign = sort.down ? -1 : 1, compared = measured(data.columns[c][2]);
    order.sort((i, j) => {
      if (compared && full(i) !== full(j)) return full(j) - full(i); // unequal budgets are not compared
      const a = data.rows[i][c], b = data.rows[j][c];
      if (a === null || b === null) return (a === null) - (b === null) || i - j; // no value: last, either way
      return sign * (a < b ? -1 : a > b ? 1 : 0) || i - j;
    });
    shown = STEP;
    draw();
  };

  const head = () => {
    const row = make("tr");
    data.columns.forEach(([, label, kind], c) => {
      const cell = make("th", null, {scope: "col", class: numeric(kind) ? "number" : ""});
      if (c === sort.column) cell.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
      const button = make("button", label, {type: "button"});
      button.addEventListener("click", () => {
        sort = {column: c, down: c === sort.column ? !sort.down : ["percent"].includes(kind)};
        head();
        select();
      });
      cell.append(button);
      row.append(cell);
    });
    const again = table.tHead.contains(document.activeElement);
    table.tHead.replaceChildren(row);
    if (again) row.children[sort.column].firstChild.focus();
  };

  const draw = () => {
    const rows = order.slice(0, shown).map(i => {
      const row = make("tr", null, {class: "row"});
      data.rows[i].forEach((value, c) => {
        const kind = data.columns[c][2];
        const cell = make("td", null, {class: numeric(kind) ? "number" : ""});
        if (c === 0) cell.append(make("button", show(value, kind), {type: "button", "aria-expanded": "false"}));
        else if (data.columns[c][0] === "epochs_run") cell.textContent = value + " of " + data.ends[i][2];
        else cell.textContent = show(value, kind);
        if (measured(kind) && value !== null && !full(i)) cell.classList.add("short");
        row.append(cell);
      });
      row.addEventListener("click", () => toggle(row, i));
      return row;
    });
    table.tBodies[0].replaceChildren(...rows);
    found.textContent = order.length.toLocaleString("en") + " of " + data.rows.length.toLocaleString("en") + " trials";
    more.hidden = shown >= order.length;
  };

  const toggle = (row, i) => {
    const open = row.classList.toggle("open");
    row.querySelector("button").setAttribute("aria-expanded", String(open));
    if (!open) return row.nextSibling.remove();
    const detail = make("tr", null, {class: "detail"}), cell = make("td", null, {colspan: data.columns.length});
    const inner = make("div", null, {class: "inner"}), facts = make("dl");
    const [id, reason, , seed, host] = data.ends[i];
    for (const [name, value] of [["trial", id], ["ended", reason], ["seed", seed], ["host", host]])
      if (value) facts.append(make("dt", name), make("dd", value));
    const settings = make("div", null, {class: "settings"});
    const own = data.configs[i] || {};
    for (const [name, value] of Object.entries({...own, ...data.shared}).sort((a, b) => a[0] < b[0] ? -1 : 1)) {
      if (value === null) continue;
      const line = make("div");
      line.append(make("span", name + " "), String(value === true ? "on" : value === false ? "off" : value));
      settings.append(line);
    }
    const left = make("div"), again = make("p", "Run this trial again: ", {class: "again"});
    again.append(make("code", data.rerun + data.rows[i][key.number]));
    left.append(facts, curve(data.curves[id], data.ends[i][2]));
    inner.append(left, settings, again);
    cell.append(inner);
    detail.append(cell);
    row.after(detail);
  };

  // What was searched for, by epoch. The axes reach over the full budget and from 0 to 100 where it is in percent, else
  // over the values of all trials.
  const range = all => [Math.min(...all), Math.max(...all)];
  const known = data.curve.percent ? [] : Object.values(data.curves).flat().filter(value => value !== null);
  const [low, high] = data.curve.percent || !known.length ? [0, 100] : range(known);
  const curve = (values, allowed) => {
    if (!values || !values.length) return make("p", "No epoch was recorded.");
    const NS = "http://www.w3.org/2000/svg", W = 300, H = 170, L = 30, T = 20, B = 30, R = 10;
    const svg = document.createElementNS(NS, "svg"), last = values[values.length - 1];
    const said = last === null ? "unknown" : data.curve.percent ? (last / 100).toFixed(2) + " %" : show(last, "measure");
    const most = Math.max(allowed || 1, values.length);
    svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${data.curve.label} by epoch; after epoch ${values.length} of ${most} it is ${said}`);
    const add = (tag, attributes, text) => {
      const element = document.createElementNS(NS, tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      if (text !== undefined) element.textContent = text;
      svg.append(element);
    };
    const small = {"font-size": 9.5, fill: "var(--muted)"};
    const x = epoch => L + (W - L - R) * (most > 1 ? (epoch - 1) / (most - 1) : 0.5);
    const height = value => T + (H - B - T) * (1 - (value - low) / (high - low || 1));
    const y = value => height(data.curve.percent ? value / 100 : value);
    add("text", {x: 0, y: 9, ...small}, data.curve.axis);
    for (const tick of [0, 0.25, 0.5, 0.75, 1].map(part => low + part * (high - low))) {
      add("line", {x1: L, x2: W - R, y1: height(tick), y2: height(tick), stroke: "var(--line)", "stroke-width": 0.7});
      add("text", {x: L - 5, y: height(tick) + 3, "text-anchor": "end", ...small}, String(+tick.toPrecision(3)));
    }
    const step = [1, 2, 5, 10, 20, 50, 100, 200, 500].find(step => (most - 1) / step <= 6) || 1000;
    for (let epoch = step === 1 ? 1 : step; epoch <= most; epoch += step)
      add("text", {x: x(epoch), y: H - B + 13, "text-anchor": "middle", ...small}, epoch);
    add("text", {x: (L + W - R) / 2, y: H - 3, "text-anchor": "middle", ...small}, "Epoch");
    const points = values.map((value, e) => value === null ? null : [x(e + 1), y(value)]).filter(Boolean);
    add("polyline", {points: points.map(p => p.join(",")).join(" "), fill: "none", stroke: "var(--blue)", "stroke-width": 1.6});
    for (const [cx, cy] of points.length > 60 ? points.slice(-1) : points) add("circle", {cx, cy, r: 2.2, fill: "var(--blue)"});
    return svg;
  };

  // On paper everything is shown that a click would open.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const element of closed) element.open = true;
  });
  addEventListener("afterprint", () => { for (const element of closed) element.open = false; });

  form.hidden = false;
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("input", select);
  more.addEventListener("click", () => { shown += 5 * STEP; draw(); });
  head();
  select();
})();
