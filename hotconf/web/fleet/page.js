// The page of a fleet: it asks for /fleet once a second, and shows the answer. Text never becomes markup.

const byId = (id) => document.getElementById(id);
const ACTIVE = ["rehearsing", "approval", "spreading", "baking"];
const SVG = "http://www.w3.org/2000/svg";

function make(name, text = "", className = "") {
  const element = document.createElement(name);
  element.textContent = text;
  element.className = className;
  return element;
}

function draw(name, attributes, text = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

const release = (number, digest) => (digest ? `release ${number} (${digest.slice(0, 12)})` : "no release");

function showStages(fleet) {
  const items = fleet.stages.map((stage, index) => {
    const isNow = index === fleet.stage && (ACTIVE.includes(fleet.state) || fleet.state === "paused");
    const isPast = index < fleet.stage || fleet.state === "done";
    const item = make("li", `${stage.percent} %, bakes ${stage.bake} s`, isNow ? "now" : isPast ? "past" : "");
    if (isNow) item.setAttribute("aria-current", "step");
    return item;
  });
  byId("stages").replaceChildren(...items);
}

function showCounts(fleet) {
  const counts = [["instances", fleet.instances], ["cohort", fleet.cohort]];
  for (const kind of ["applied", "waiting", "refused", "silent", "drift"]) counts.push([kind, fleet[`${kind}_count`]]);
  byId("counts").replaceChildren(...counts.map(([kind, count]) => {
    const box = document.createElement("div");
    box.append(make("dt", kind), make("dd", String(count), count ? kind : ""));
    return box;
  }));
  const named = Object.entries(fleet.faults).slice(0, 10).map(([name, faults]) => make("li", `${name}: ${faults.join("; ")}`, "refused"));
  const silent = fleet.silent.slice(0, 10).map((name) => make("li", `${name}: silent`, "silent"));
  byId("faults").replaceChildren(...named, ...silent);
}

function showMeasures(fleet) {
  const figures = Object.entries(fleet.measures).map(([name, groups]) => {
    const dots = ["control", "cohort"].flatMap((group) => groups[group]
      .filter((entry) => entry.before > 0 && entry.after !== null)
      .map((entry) => ({ group, id: entry.id, ratio: entry.after / entry.before })));
    const most = Math.max(2, ...dots.map((dot) => dot.ratio));
    const x = (ratio) => 10 + (ratio / most) * 580;
    const chart = draw("svg", { viewBox: "0 0 600 60", role: "img", "aria-label": `${name}, ${dots.length} instances` });
    chart.append(draw("line", { x1: x(1), x2: x(1), y1: 0, y2: 46 }), draw("text", { x: x(1) - 3, y: 57 }, "1"));
    chart.append(draw("text", { x: 560, y: 57 }, `${most.toFixed(1)}×`));
    for (const dot of dots) {
      const circle = draw("circle", { cx: x(dot.ratio), cy: dot.group === "cohort" ? 14 : 34, r: 5, class: dot.group });
      circle.append(draw("title", {}, `${dot.id}: ${dot.ratio.toFixed(2)}`));
      chart.append(circle);
    }
    const figure = document.createElement("figure");
    figure.append(make("figcaption", `${name} (${groups.better} is better): cohort above, control group below`), chart);
    return figure;
  });
  byId("measures").replaceChildren(...(figures.length ? figures : [make("p", "No instance reports a measure.")]));
}

function showActions(fleet) {
  const isRunning = ACTIVE.includes(fleet.state) || ["paused", "reverting"].includes(fleet.state);
  const actions = [
    ["Pause", "rollout/pause", ACTIVE.includes(fleet.state)],
    ["Resume", "rollout/resume", fleet.state === "paused"],
    ["Promote", "rollout/promote", ["spreading", "baking", "paused"].includes(fleet.state)],
    ["Approve", "rollout/approve", fleet.state === "approval"],
    ["Abort", "rollout/abort", isRunning],
    ["Roll back", "rollback", !isRunning && fleet.stable !== null],
  ];
  const shown = actions.filter(([, , isPossible]) => isPossible).map(([label]) => label).join();
  if (byId("actions").dataset.shown === shown) return; // a button under the pointer stays the same one
  byId("actions").dataset.shown = shown;
  byId("actions").replaceChildren(...actions.filter(([, , isPossible]) => isPossible).map(([label, path]) => {
    const button = make("button", label);
    button.type = "button";
    button.addEventListener("click", () => act(label, path));
    return button;
  }));
}

async function act(label, path) {
  if (["Promote", "Roll back"].includes(label) && !confirm(`${label}: this concerns the whole fleet at once. Go on?`)) return;
  const answer = await fetch(`fleet/${path}`, { method: "POST" }).catch(() => null);
  complain(answer?.ok ? "" : answer ? await answer.text() : "The judge cannot be reached.");
  await look();
}

function complain(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

function show(fleet) {
  byId("fleet").textContent = fleet.fleet;
  byId("state").textContent = fleet.state;
  byId("state").className = `tag ${fleet.state}`;
  const isOver = ["done", "reverted", "aborted"].includes(fleet.state);
  const target = fleet.target ? `; ${isOver ? "the last rollout was of" : "rolling out"} ${release(fleet.target_release, fleet.target)}` : "";
  byId("summary").textContent = `Stable: ${release(fleet.stable_release, fleet.stable)}${target}`;
  byId("reason").textContent = fleet.reason;
  showStages(fleet);
  showCounts(fleet);
  showMeasures(fleet);
  showActions(fleet);
  byId("audit").replaceChildren(...fleet.audit.toReversed().map((line) => {
    const row = document.createElement("tr");
    row.append(...[line.at.slice(11, 19), line.by, line.what, line.why].map((text) => make("td", text)));
    return row;
  }));
}

async function look() {
  try {
    const answer = await fetch("fleet");
    if (!answer.ok) throw new Error(await answer.text());
    show(await answer.json());
    byId("state").removeAttribute("data-lost");
  } catch (error) {
    byId("state").textContent = "not connected";
    byId("state").dataset.lost = "true";
  }
}

async function watch() {
  await look();
  setTimeout(watch, 1000);
}

watch();
