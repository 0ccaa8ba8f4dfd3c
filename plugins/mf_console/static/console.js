"use strict";

// Titles and ids are other people's words, so everything from the warehouse is set as text, never
// as markup.

const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

const quiet = (text) => element("p", { className: "quiet" }, text);

function shown(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (Number.isInteger(value)) return value.toLocaleString();
  if (typeof value === "number") return value.toFixed(4);
  return String(value);
}

function moment(value) {
  const date = new Date(value);
  return value && !Number.isNaN(date.valueOf()) ? date.toLocaleString() : "–";
}

function card(name, value) {
  return element("dl", { className: "card" }, element("dt", {}, name), element("dd", {}, value));
}

function table(caption, columns, rows) {
  const headCells = columns.map(({ name, number }) => {
    const className = number ? "number" : "";
    return element("th", { scope: "col", className }, name);
  });
  const bodyRows = rows.map((row) => {
    const cells = columns.map(({ number, of }) => {
      const className = number ? "number" : "text";
      return element("td", { className }, of(row));
    });
    return element("tr", {}, ...cells);
  });
  const wholeTable = element(
    "table",
    {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...headCells)),
    element("tbody", {}, ...bodyRows),
  );
  // A wide table scrolls in its own box, which the keyboard must reach.
  const box = { className: "scroll", tabIndex: 0, role: "region", ariaLabel: caption };
  return element("div", box, wholeTable);
}

function badge(good, goodWord, badWord) {
  const className = good ? "badge good" : "badge bad";
  return element("span", { className }, good ? goodWord : badWord);
}

function showLive(version, models) {
  if (version === null) {
    const none = quiet(
      "No version is live yet. Unpause or trigger mf_retrain; its first approved run goes live.",
    );
    byId("live").replaceChildren(none);
    return;
  }
  const model = models.find((candidate) => candidate.is_live) ?? {};
  byId("live").replaceChildren(
    card("Version", String(version)),
    card("Went live", shown(model.went_live)),
    card("First published", moment(model.published_at)),
    card("Test RMSE", shown(model.rmse)),
    card(`NDCG@${shown(model.cutoff)}`, shown(model.ndcg)),
    card("Training ratings", shown(model.n_train)),
  );
}

function rule({ passed, text }) {
  return element("li", {}, badge(passed, "passed", "failed"), ` ${text}`);
}

function verdict(decision, open) {
  const { approved, stage } = decision;
  const stages = { evaluated: "", refit: ", check of the refit", override: ", overruled" };
  const what = stages[stage] ?? `, ${stage}`;
  const by = decision.decided_by === "gate" ? "" : ` by ${decision.decided_by}`;
  const text = ` version ${decision.model_version}${what}${by}, ${moment(decision.decided_at)}`;

  const champion = decision.champion_version;
  const rival = champion === null ? "no champion" : `champion ${champion}`;
  const against = element("span", { className: "quiet" }, ` against ${rival}`);

  const mark = badge(approved, "approved", "refused");
  const summary = element("summary", {}, mark, text, against);
  const reasons = element("ul", {}, ...decision.reasons.map(rule));
  return element("details", { open }, summary, reasons);
}

function showDecisions(decisions) {
  // The newest verdict is open.
  const nodes = decisions.map((decision, index) => verdict(decision, index === 0));
  if (!nodes.length) nodes.push(quiet("The gate has not judged anything yet."));
  byId("decisions").replaceChildren(...nodes);
}

function showModels(models) {
  const columns = [
    { name: "Version", number: true, of: (model) => String(model.model_version) },
    { name: "State", of: (model) => (model.is_live ? "live" : shown(model.state)) },
    { name: "Went live", of: (model) => shown(model.went_live) },
    { name: "Test RMSE", number: true, of: (model) => shown(model.rmse) },
    { name: "NDCG", number: true, of: (model) => `${shown(model.ndcg)} @${shown(model.cutoff)}` },
    { name: "Training ratings", number: true, of: (model) => shown(model.n_train) },
    { name: "Made", of: (model) => moment(model.created_at) },
    { name: "Published", of: (model) => moment(model.published_at) },
  ];
  const none = quiet("There are no versions yet.");
  byId("models").replaceChildren(models.length ? table("Newest first", columns, models) : none);
}

function showList({ user_id: userId, items }) {
  const columns = [
    { name: "Rank", number: true, of: (item) => String(item.rank) },
    { name: "Title", of: (item) => shown(item.title) },
    { name: "Item id", of: (item) => shown(item.item_id) },
    { name: "Score", number: true, of: (item) => shown(item.score) },
    { name: "Predicted rating", number: true, of: (item) => shown(item.predicted_rating) },
    { name: "Standard deviation", number: true, of: (item) => shown(item.predicted_rating_sd) },
    { name: "Source", of: (item) => shown(item.source) },
  ];
  const none = quiet(`There is no list for user ${userId}.`);
  const list = table(`List of user ${userId}`, columns, items);
  byId("list").replaceChildren(items.length ? list : none);
}

async function fetchJson(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" } });
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;

  const { status } = response;
  const words = {
    401: "Your session has ended. Reload Airflow and log in.",
    403: "You may not see the runs of mf_retrain.",
  };
  const detail = typeof body.detail === "string" ? body.detail : `The server answered ${status}.`;
  throw new Error(words[status] ?? detail);
}

function say(problem) {
  byId("problem").textContent = problem;
  byId("problem").hidden = !problem;
}

async function loadOverview() {
  try {
    const { live, models, decisions } = await fetchJson("api/overview");
    say("");
    showLive(live, models);
    showDecisions(decisions);
    showModels(models);
  } catch (error) {
    say(error.message);
    for (const id of ["live", "decisions", "models"]) {
      byId(id).replaceChildren(quiet("Not known."));
    }
  }
}

async function lookUp(event) {
  event.preventDefault();
  const query = new URLSearchParams(new FormData(event.target));
  try {
    showList(await fetchJson(`api/recommendations?${query}`));
    say("");
  } catch (error) {
    byId("list").replaceChildren();
    say(error.message);
  }
}

// Airflow keeps the chosen theme under this key. With `system`, or without a value, the browser
// chooses.
function followTheme() {
  const theme = localStorage.getItem("theme");
  document.documentElement.dataset.theme = ["light", "dark"].includes(theme) ? theme : "";
}

followTheme();
window.addEventListener("storage", followTheme);
byId("look-up").addEventListener("submit", lookUp);
byId("reload").addEventListener("click", loadOverview);
loadOverview();
