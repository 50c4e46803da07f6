"use strict";
// Draws what stands in the JSON block; tables.js, put after this in one script, draws the tables. All text goes through
// textContent, or through plain() where Plotly would read tags.

const DATA = JSON.parse(document.getElementById("data").textContent);
const INK = "#1b1f24", GREY = "#59636e", GRID = "#e4e8ec", KNEE = "#d55e00", ONE = "#0072b2", OTHER = "#e69f00";
const FONT = { family: 'system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif', size: 13, color: INK };
const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
const LABELLED = 12; // with more settings than this, only the knee and the best have their name beside them
const element = (id) => document.getElementById(id);

function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function quantity(value) { // 14.75M, 857.1K, 96: four digits at most
  if (value === null) return "–";
  for (const [scale, letter] of [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "K"]]) {
    if (Math.abs(value) >= 0.99995 * scale) return (value / scale).toPrecision(4) + letter;
  }
  return Number.isInteger(value) ? String(value) : value.toPrecision(4);
}

function short(value, digits) {
  return value === null ? "–" : value.toFixed(digits);
}

function accuracy(setting) {
  return short(setting.accuracy, 2) + (setting.half === null ? "" : " ± " + short(setting.half, 2));
}

function wrapped(text, most = 60) { // for hover, where a long name would leave the page
  const lines = [""];
  for (const part of text.split(/(?<=, )/)) {
    if (lines.at(-1) && lines.at(-1).length + part.length > most) lines.push("");
    lines[lines.length - 1] += part;
  }
  return lines.map(plain).join("<br>");
}

function axis(title, more = {}) {
  const common = { gridcolor: GRID, linecolor: GREY, ticks: "outside", tickcolor: GREY, zeroline: false, automargin: true };
  return { title: { text: title, standoff: 10 }, ...common, ...more };
}

function layout(x, y, more = {}) {
  const margin = { l: 55, r: 15, t: 30, b: 50 };
  return { font: FONT, xaxis: x, yaxis: y, margin, showlegend: false, hovermode: "closest", paper_bgcolor: "#fff",
    plot_bgcolor: "#fff", hoverlabel: { bgcolor: "#fff", bordercolor: GREY, font: FONT }, ...more };
}

function option(select, value, text) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  select.append(made);
}

function text(tag, words) {
  const made = document.createElement(tag);
  made.textContent = words;
  return made;
}

// Accuracy against a cost.

function drawScatter() {
  const chosen = DATA.axes[Number(element("axis").value)], key = chosen.number;
  const places = DATA.settings.keys().filter((i) => DATA.settings[i].accuracy !== null && DATA.settings[i][key] !== null);
  const known = [...places].map((i) => DATA.settings[i]);
  const seeds = DATA.trials.filter((t) => t.status === "done" && t.test_accuracy !== null && t[key] !== null);
  const front = chosen.front.map((i) => DATA.settings[i]), knee = known.filter((s) => s.knee);
  const labelled = known.map((s) => known.length <= LABELLED || s.knee || s.best);
  const hover = (s) => `<b>${wrapped(s.label)}</b><br>${accuracy(s)} %, ${s.n} of ${s.planned} seeds<br>` +
    `${quantity(s[key])} ${chosen.unit}`;
  const traces = [
    { name: "seeds", mode: "markers", x: seeds.map((t) => t[key]), y: seeds.map((t) => t.test_accuracy),
      marker: { size: 6, opacity: 0.4, color: seeds.map((t) => DATA.settings[t.setting].colour) },
      text: seeds.map((t) => `${wrapped(DATA.settings[t.setting].label)}<br>seed ${t.seed}: ${short(t.test_accuracy, 2)} %`),
      hovertemplate: "%{text}<extra></extra>" },
    { name: "Pareto front", mode: "lines", x: front.map((s) => s[key]), y: front.map((s) => s.accuracy),
      line: { color: GREY, width: 1.5 }, hoverinfo: "skip" },
    { name: "means", mode: "markers", x: known.map((s) => s[key]), y: known.map((s) => s.accuracy),
      error_y: { type: "data", array: known.map((s) => s.half), color: GREY, thickness: 1.3, width: 4 },
      marker: { size: 11, opacity: 1, color: known.map((s) => s.colour), line: { color: "#fff", width: 1 } },
      text: known.map(hover), hovertemplate: "%{text}<extra></extra>" },
    { name: "the knee", mode: "markers", x: knee.map((s) => s[key]), y: knee.map((s) => s.accuracy), hoverinfo: "skip",
      marker: { size: 20, symbol: "circle-open", color: KNEE, line: { color: KNEE, width: 2 } } },
  ];
  const log = (value) => (chosen.log ? Math.log10(value) : value);
  const width = element("scatter").clientWidth - 75, narrow = width < 500;
  const range = widened(seeds.map((t) => t[key]).concat(known.map((s) => s[key])).map(log));
  const annotations = known.flatMap((s, i) => {
    if (!labelled[i] || (narrow && !s.knee)) return [];
    const name = shortened(DATA.several ? s.values : s.label), place = (log(s[key]) - range[0]) / (range[1] - range[0]);
    const left = place * width + 8 + 6.5 * name.length < width; // below and right of the marker where there is room
    const at = left ? { xanchor: "left", yanchor: "top", xshift: 8, yshift: -3 }
      : { xanchor: "right", yanchor: "bottom", xshift: -8, yshift: 5 };
    const font = { size: 11, color: s.knee ? KNEE : GREY };
    return [{ text: plain(name), x: log(s[key]), y: s.accuracy, showarrow: false, font, ...at }];
  });
  const x = axis(chosen.title, { type: chosen.log ? "log" : "linear", tickformat: "~s", range,
    ...(chosen.log ? { tickvals: ticks(range), tickmode: "array" } : { nticks: narrow ? 5 : 9 }) });
  const legend = { showlegend: true, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" } };
  const ends = known.flatMap((s) => [s.accuracy - (s.half ?? 0), s.accuracy + (s.half ?? 0)]);
  const [low, high] = widened(seeds.map((t) => t.test_accuracy).concat(ends));
  const y = axis("test accuracy (%)", { range: [Math.max(low, -1), Math.min(high, 100 + 0.02 * (high - low))] });
  Plotly.react("scatter", traces, layout(x, y, { annotations, ...legend }), CONFIG);
}

function widened(values) { // from the least to the most with some room, as a plot's axis
  const least = Math.min(...values), most = Math.max(...values);
  const room = (most - least || Math.abs(most) || 1) * 0.07;
  return [least - room, most + room];
}

function ticks([least, most]) { // 1, 2 and 5 of each decade of a logarithmic axis; 1 alone where there are many decades
  const found = [];
  for (let decade = Math.floor(least); decade <= most; decade++) {
    for (const digit of most - least > 3 ? [1] : [1, 2, 5]) found.push(digit * 10 ** decade);
  }
  return found.filter((value) => Math.log10(value) >= least && Math.log10(value) <= most);
}

function shortened(label, most = 34) {
  return label.length <= most ? label : label.slice(0, most / 2) + "…" + label.slice(-most / 2);
}

// Learning curves.

function drawCurves() {
  if (!DATA.curves.some(({ seeds }) => seeds.some((seed) => seed.test[0].length || seed.train[0].length))) {
    element("no_curves").hidden = false;
    for (const id of ["accuracy", "loss"]) element(id).remove();
    return;
  }
  const numbers = { test: ["accuracy", "test accuracy (%)"], train: ["loss", "loss in training (nats)"] };
  for (const [split, [id, title]] of Object.entries(numbers)) {
    const traces = [];
    for (const { setting, seeds, mean } of DATA.curves) {
      const { colour, label } = DATA.settings[setting];
      for (const curve of [...seeds, { ...mean, seed: null }]) {
        const bold = curve.seed === null, whose = bold ? "mean" : `seed ${curve.seed}`;
        traces.push({ mode: curve[split][0].length === 1 ? "markers" : "lines", x: curve[split][0], y: curve[split][1],
          name: `${plain(label)}, ${whose}`, meta: setting, opacity: bold ? 1 : 0.45,
          line: { color: colour, width: bold ? 2.6 : 1 }, marker: { color: colour, size: bold ? 8 : 5 },
          hovertemplate: `${wrapped(label)}, ${whose}<br>epoch %{x:.4~g}: %{y:.4~g}<extra></extra>` });
      }
    }
    const values = traces.flatMap((trace) => trace.y), least = Math.min(...values), most = Math.max(...values);
    const log = split === "train" && least > 0 && most / least > 10;
    const room = 0.05 * (Math.log10(most) - Math.log10(least));
    const range = [Math.log10(least) - room, Math.log10(most) + room];
    const y = axis(title, log ? { type: "log", range, tickvals: ticks(range), tickmode: "array", tickformat: "~g" } : {});
    Plotly.newPlot(id, traces, layout(axis("epoch"), y, { margin: { l: 55, r: 10, t: 10, b: 45 } }), CONFIG);
  }
  for (const { setting } of DATA.curves) {
    const button = document.createElement("button"), swatch = document.createElement("span");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    swatch.className = "swatch";
    swatch.style.background = DATA.settings[setting].colour;
    button.append(swatch, text("span", DATA.settings[setting].label));
    button.addEventListener("click", () => toggle(button, setting));
    element("legend").append(button);
  }
}

function toggle(button, setting) {
  const visible = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(visible));
  for (const id of ["accuracy", "loss"]) {
    const own = [...element(id).data.keys()].filter((i) => element(id).data[i].meta === setting);
    Plotly.restyle(id, { visible }, own);
  }
}

// Cost by layer.

function chooseNetworks() {
  const has = (i) => i in DATA.network_of;
  option(element("beside"), "", "nothing");
  DATA.settings.forEach((setting, i) => {
    if (has(i)) for (const id of ["network", "beside"]) option(element(id), i, setting.label);
  });
  const knee = DATA.settings.findIndex((s) => s.knee), best = DATA.settings.findIndex((s) => s.best);
  if (has(knee)) element("network").value = knee;
  if (has(best) && best !== knee) element("beside").value = best;
}

function drawLayers() {
  const of = element("quantity").value, depth = element("depth").value;
  const chosen = [element("network").value, element("beside").value].filter((value) => value !== "");
  const rowsOf = (i) => DATA.networks[DATA.network_of[i]][depth];
  const networks = [...new Set(chosen)].map((i) => ({ setting: DATA.settings[i], rows: rowsOf(i) }));
  if (!networks.length) {
    element("layers").replaceChildren(text("p", "There is no config of a trial here whose network could be counted."));
    return;
  }
  const paths = [...new Set(networks.flatMap(({ rows }) => rows.map((row) => row.path)))];
  const traces = networks.map(({ setting, rows }, i) => {
    const found = new Map(rows.map((row) => [row.path, row]));
    return { type: "bar", orientation: "h", name: plain(shortened(setting.label, 60)), y: paths.map(plain),
      x: paths.map((path) => found.get(path)?.[of] ?? 0), marker: { color: [ONE, OTHER][i] },
      text: paths.map((path) => quantity(found.get(path)?.[of] ?? 0)), hovertemplate: "%{y}: %{text}<extra></extra>",
      textposition: "none" };
  });
  const title = of === "macs" ? "MACs an image" : "parameters";
  const height = 120 + paths.length * (12 + 10 * networks.length);
  const y = axis("", { autorange: "reversed", ticks: "", tickfont: { size: 11 }, dtick: 1 });
  const legend = { showlegend: true, legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", traceorder: "normal" } };
  const x = axis(title, { tickformat: "~s", rangemode: "tozero", nticks: 7 });
  const more = { height, bargap: 0.25, margin: { l: 10, r: 15, t: 45, b: 50 }, ...legend };
  element("layers").style.height = `${height}px`;
  Plotly.react("layers", traces, layout(x, y, more), CONFIG);
}

function drawWords() {
  for (const id of ["title", "sentence"]) element(id).textContent = DATA[id];
  element("progress").textContent = DATA.progress;
  if (DATA.not_counted.length) element("not_counted").textContent = `Not counted: ${DATA.not_counted.join("; ")}`;
  const { device, versions, date, command } = DATA.footer, line = document.createElement("p");
  line.append("Made by ", text("code", command), `; results of ${date}${device && `, on ${device}`}.`);
  element("footer").append(line, ...versions.map((words) => text("p", words)));
  DATA.axes.forEach(({ title }, i) => option(element("axis"), i, title));
}

drawWords();
drawScatter();
drawTables();
drawCurves();
chooseNetworks();
drawLayers();
element("axis").addEventListener("change", drawScatter);
for (const id of ["network", "beside", "quantity", "depth"]) element(id).addEventListener("change", drawLayers);
