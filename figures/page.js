"use strict";
const told = JSON.parse(document.getElementById("data").textContent);
const plot = document.getElementById("plot");
const [SURFACE, CONTOUR, WAY_3D, WAY_2D, MARKS_3D, MARKS_2D] = [0, 1, 2, 3, 4, 5];
const control = (name) => document.querySelector(`[name=${name}]:checked, select[name=${name}]`);
const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

function chosen() {
  const measure = control("measure").value, split = control("split")?.value;
  const found = told.quantities.filter((q) => q.measure === measure);
  return found.find((q) => q.split === split) || found[0];
}

function height(quantity, scale, value) {
  if (value === null || scale === "linear") return value;
  return Math.log10(Math.max(value, quantity.lowest));
}

function digits(value) {
  return value === null ? "no number" : Number(value.toPrecision(5)).toString();
}

function described(x, y, row, column) {
  const values = told.quantities.map((q) => `${escaped(q.words)}: ${digits(q.values[row][column])}`);
  return [`(${digits(x)}, ${digits(y)})`, ...values].join("<br>");
}

function named(labels, quantity, heights, scale) {
  const value = (h) => (h === null ? null : scale === "log" ? 10 ** h : h);
  return labels.map((label, i) => `${escaped(label)}<br>${escaped(quantity.words)} here: ${digits(value(heights[i]))}`);
}

function dress(trace, quantity, shown, z) {
  const [x, y] = [trace.x, trace.y];
  trace.z = z;
  trace.text = z.map((row, j) => row.map((_, i) => described(x[i], y[j], j, i)));
  trace.colorscale = shown.colours;
  trace.colorbar.tickvals = shown.ticks;
  trace.colorbar.ticktext = shown.texts;
  trace.colorbar.title.text = escaped(quantity.words);
}

function showPlane(quantity, scale, view) {
  const shown = quantity.scales[scale], { data, layout } = told.figure;
  const z = quantity.values.map((row) => row.map((value) => height(quantity, scale, value)));
  const lines = { start: shown.start, end: shown.end, size: shown.size };
  for (const trace of [SURFACE, CONTOUR]) dress(data[trace], quantity, shown, z);
  Object.assign(data[SURFACE], { cmin: shown.low, cmax: shown.high });
  Object.assign(data[SURFACE].contours.z, lines);
  Object.assign(data[CONTOUR], { zmin: shown.low, zmax: shown.high, autocontour: false, contours: lines });
  const lift = 0.012 * (shown.high - shown.low);  // else the surface would hide half of what lies on it
  for (const [traces, heights, labels] of [
    [[WAY_3D, WAY_2D], shown.trajectory, told.trajectory],
    [[MARKS_3D, MARKS_2D], shown.marks, told.labels],
  ]) {
    data[traces[0]].z = heights.map((h) => (h === null ? null : h + lift));
    for (const trace of traces) data[trace].text = named(labels, quantity, heights, scale);
  }
  Object.assign(layout.scene.zaxis, { tickvals: shown.ticks, ticktext: shown.texts });
  layout.scene.zaxis.title.text = escaped(quantity.words);
  const note = (i) => ({ text: escaped(told.labels[i]), ax: 25, ay: -30, bgcolor: "rgba(255,255,255,0.8)" });
  const inSpace = (_, i) => ({ ...note(i), x: data[MARKS_3D].x[i], y: data[MARKS_3D].y[i], z: shown.marks[i] });
  const onPlane = (_, i) => ({ ...note(i), x: data[MARKS_2D].x[i], y: data[MARKS_2D].y[i] });
  layout.scene.annotations = told.labels.map(inSpace).filter((one) => one.z !== null);
  layout.annotations = told.labels.map(onPlane);
  return only(view);
}

function only(view) {
  const { data, layout } = told.figure;
  const camera = plot.layout?.scene?.camera;
  if (camera) layout.scene.camera = camera;
  const { scene, xaxis, yaxis, annotations, ...both } = layout;
  return view === "surface"
    ? [[SURFACE, WAY_3D, MARKS_3D].map((i) => data[i]), { ...both, scene }]
    : [[CONTOUR, WAY_2D, MARKS_2D].map((i) => data[i]), { ...both, xaxis, yaxis, annotations }];
}

function showLine(measure, scale) {
  const { data, layout } = told.figure;
  told.quantities.forEach((q, number) => { data[number].visible = q.measure === measure; });
  layout.yaxis.type = scale;
  layout.yaxis.autorange = true;
  layout.yaxis.title = { text: escaped(chosen().words.replace(/^(train|test) /, "")) };
  return [data, layout];
}

function show() {
  const quantity = chosen();
  for (const radio of document.querySelectorAll("[name=split]")) {
    radio.disabled = !told.quantities.some((q) => q.measure === quantity.measure && q.split === radio.value);
  }
  const logarithm = document.querySelector("[name=scale][value=log]");
  logarithm.disabled = !quantity.scales.log;
  const scale = logarithm.disabled ? "linear" : control("scale").value;
  const [data, layout] = told.dimensions === 2
    ? showPlane(quantity, scale, control("view").value)
    : showLine(quantity.measure, scale);
  document.getElementById("note").textContent = quantity.note;
  Plotly.react(plot, data, layout, { responsive: true, displaylogo: false });
}

document.getElementById("controls").addEventListener("change", show);
show();
