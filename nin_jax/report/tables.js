// Tables. A column has a key, a title, what is shown of a row and what it is sorted by.

function drawTable(table, columns, rows, rowClass) {
  const head = table.createTHead().insertRow(), body = table.createTBody();
  const made = rows.map((row) => {
    const line = body.insertRow();
    line.className = rowClass(row);
    for (const column of columns) {
      const cell = line.insertCell();
      cell.textContent = column.show(row);
      cell.className = column.className ?? (column.number ? "number" : "");
    }
    return { row, line, words: columns.map((column) => `${column.key}=${column.show(row)}`) };
  });
  columns.forEach((column) => {
    const cell = document.createElement("th"), button = text("button", column.title);
    cell.scope = "col";
    cell.setAttribute("aria-sort", "none");
    if (column.number) cell.className = "number";
    button.type = "button";
    cell.append(button);
    cell.addEventListener("click", () => sortBy(column, cell));
    head.append(cell);
  });

  function sortBy(column, cell) {
    const up = cell.getAttribute("aria-sort") !== "ascending";
    for (const other of head.cells) other.setAttribute("aria-sort", "none");
    cell.setAttribute("aria-sort", up ? "ascending" : "descending");
    const nothing = (value) => value === null || value === undefined || value === "";
    const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
      : String(a).localeCompare(String(b), "en", { numeric: true });
    made.sort(({ row: a }, { row: b }) => {
      const [x, y] = [column.value(a), column.value(b)];
      return nothing(x) || nothing(y) ? nothing(x) - nothing(y) : up ? compare(x, y) : compare(y, x);
    });
    body.append(...made.map(({ line }) => line));
  }
  return made;
}

function column(key, title, show, more = {}) {
  return { key, title, number: true, value: (row) => row[key], show: (row) => show(row[key]), ...more };
}

function drawTables() {
  const words = { number: false }, name = (value) => value ?? "";
  drawTable(element("settings"), [
    column("label", "setting", name, words),
    column("accuracy", "test accuracy, %", null, { show: accuracy }),
    column("params", "parameters", quantity),
    column("macs", "MACs", quantity),
    column("train_flops", "training FLOPs", quantity),
    column("images_per_second", "images/s", quantity),
    column("n", "seeds", null, { show: (s) => (s.n === s.planned ? String(s.n) : `${s.n} of ${s.planned}`) }),
    column("front", "Pareto", null, { ...words, show: (s) => (s.knee ? "● knee" : s.front ? "●" : ""),
      value: (s) => (s.knee ? 0 : s.front ? 1 : 2) }),
  ], DATA.settings, (s) => (s.knee ? "knee" : ""));
  const fields = DATA.fields.map((field) => {
    const value = (t) => t.overrides[field] ?? null;
    const number = DATA.trials.every((t) => value(t) === null || typeof value(t) === "number");
    return column(field, field, null, { number, value, show: (t) => (value(t) === null ? "" : String(value(t))) });
  });
  const made = drawTable(element("trials"), [
    column("trial", "trial", name, words),
    ...fields,
    column("seed", "seed", (seed) => (seed === null ? "–" : String(seed))),
    column("status", "status", name, words),
    ...(DATA.trials.some((t) => t.error) ? [column("error", "error", name, { ...words, className: "error" })] : []),
    column("test_accuracy", "test accuracy, %", (value) => short(value, 2)),
    column("train_accuracy", "train accuracy, %", (value) => short(value, 2)),
    column("test_loss", "test loss, nats", (value) => short(value, 4)),
    column("params", "parameters", quantity),
    column("macs", "MACs", quantity),
    column("train_flops", "training FLOPs", quantity),
    column("images_per_second", "images/s", quantity),
    column("wall_seconds", "seconds", quantity),
  ], DATA.trials, (t) => t.status);
  const filter = () => {
    const asked = element("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { row, line, words } of made) {
      const found = [DATA.settings[row.setting].name, ...words].join("\n").toLowerCase();
      line.hidden = !asked.every((word) => found.includes(word));
    }
    const count = made.filter(({ line }) => !line.hidden).length;
    element("shown").textContent = count === made.length ? "" : `${count} of ${made.length} trials`;
  };
  element("filter").addEventListener("input", filter);
  filter(); // a browser may have kept what was typed
}
