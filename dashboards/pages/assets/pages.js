// Sorting, filtering, the theme, and pages that renew themselves. No library.

const STATE = new URLSearchParams(location.search);

// ---- theme -------------------------------------------------------------------------------------------------------
const themes = ["system", "light", "dark"];
const themeButton = document.getElementById("theme");
function showTheme() {
  const now = document.documentElement.dataset.theme ?? "system";
  themeButton.textContent = `Theme: ${now}`;
  themeButton.hidden = false;
}
themeButton.addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? "system";
  const next = themes[(themes.indexOf(now) + 1) % themes.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try { next === "system" ? localStorage.removeItem("theme") : localStorage.setItem("theme", next); } catch { /* private */ }
  showTheme();
});
showTheme();

// ---- ages --------------------------------------------------------------------------------------------------------
const UNITS = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "always", style: "short" });
function ages(root = document) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const seconds = Math.max(1, (Date.now() - Date.parse(time.dateTime)) / 1000);
    const [size, unit] = UNITS.find(([size]) => seconds >= size);
    time.title ||= time.textContent;
    const text = relative.format(-Math.floor(seconds / size), unit);
    if (time.textContent !== text) time.textContent = text;
  }
}

// ---- tables ------------------------------------------------------------------------------------------------------
function remember(key, value) {
  value ? STATE.set(key, value) : STATE.delete(key);
  const query = STATE.toString();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
}

function valueOf(row, index, kind) {
  const cell = row.cells[index];
  if (!cell) return kind === "number" ? NaN : "";
  const text = cell.dataset.value ?? cell.textContent.trim();
  return kind === "number" ? (text === "" ? NaN : Number(text)) : text.toLowerCase();
}

function sort(table) {
  const [column, order] = (STATE.get(`sort-${table.dataset.sortable}`) ?? "").split(".");
  if (!column) return;
  const index = Number(column), sign = order === "down" ? -1 : 1;
  const head = table.tHead.rows[0].cells[index];
  if (!head?.dataset.kind) return;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [valueOf(row, index, head.dataset.kind), row]);
  rows.sort(([a], [b]) => {
    if (head.dataset.kind !== "number") return sign * a.localeCompare(b, "en", { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return sign * (a - b);
  });
  body.append(...rows.map(([, row]) => row));
}

function filter(input) {
  const table = document.querySelector(`table[data-sortable="${input.dataset.filter}"]`);
  if (!table) return;
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...table.tBodies[0].rows].filter((row) => !row.querySelector(".empty"));
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    shown += !row.hidden;
  }
  const count = document.getElementById("count");
  if (count) count.textContent = words.length ? `${shown} of ${rows.length}` : "";
}

for (const table of document.querySelectorAll("table[data-sortable]")) {
  [...table.tHead.rows[0].cells].forEach((head, index) => {
    if (!head.dataset.kind) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const first = head.dataset.kind === "number" ? "down" : "up";
      const next = now === null ? first : now === "ascending" ? "down" : "up";
      remember(`sort-${table.dataset.sortable}`, `${index}.${next}`);
      sort(table);
    });
  });
}
for (const input of document.querySelectorAll("input[data-filter]")) {
  input.value = STATE.get("filter") ?? "";
  input.addEventListener("input", () => { remember("filter", input.value); filter(input); });
}
function arrange() {
  document.querySelectorAll("table[data-sortable]").forEach(sort);
  document.querySelectorAll("input[data-filter]").forEach(filter);
  ages();
}
arrange();

// ---- keyboard ----------------------------------------------------------------------------------------------------
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  if (event.key === "/") {
    const input = document.querySelector("input[type=search]");
    if (input) { event.preventDefault(); input.focus(); }
  }
  const move = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  if (move && !event.target.closest(".scroll")) document.querySelector(`a[rel=${move}]`)?.click();
});

// ---- renewal -----------------------------------------------------------------------------------------------------
const status = document.getElementById("live");
const sources = new Map();  // parts as the server sent them: ages and order on the page are not news
let tag = null, failures = 0, timer = null, asking = false;

function renew(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  if (fresh.title && !fresh.querySelector("[data-live]")) throw new Error("another page");
  const focused = document.activeElement?.getAttribute?.("href");
  for (const part of document.querySelectorAll("[data-live]")) {
    const other = fresh.querySelector(`[data-live="${CSS.escape(part.dataset.live)}"]`);
    if (!other || other.innerHTML === sources.get(part.dataset.live)) continue;
    sources.set(part.dataset.live, other.innerHTML);
    const checked = new Set([...part.querySelectorAll("input:checked")].map((input) => input.value));
    const open = [...part.querySelectorAll("details")].map((details) => details.open);
    part.replaceChildren(...document.adoptNode(other).childNodes);
    for (const input of part.querySelectorAll("input[type=checkbox]")) input.checked = checked.has(input.value);
    part.querySelectorAll("details").forEach((details, index) => { if (index in open) details.open = open[index]; });
    if (focused && document.activeElement === document.body) {
      [...part.querySelectorAll("a[href]")].find((a) => a.getAttribute("href") === focused)?.focus({ preventScroll: true });
    }
  }
  document.body.dataset.refresh = fresh.body.dataset.refresh ?? "";
  arrange();
}

async function look() {
  clearTimeout(timer);
  if (asking || document.hidden || !document.body.dataset.refresh) return;
  asking = true;
  try {
    const headers = tag ? { "If-None-Match": tag } : {};
    const answer = await fetch(location.pathname + location.search, { headers, cache: "no-store", credentials: "same-origin" });
    if (answer.status === 401 || answer.status === 403 || answer.redirected) {
      status.textContent = "Sign in again: reload the page";
      return;
    }
    if (answer.status === 404) {
      status.textContent = "This is no longer there: the run was removed, or has another name now";
      return;
    }
    if (answer.ok) { tag = answer.headers.get("ETag"); renew(await answer.text()); }
    else if (answer.status !== 304) throw new Error(answer.statusText);
    failures = 0;
    status.textContent = "";
  } catch {
    failures += 1;
    status.textContent = "The server does not answer; what you see may be old";
  } finally {
    asking = false;
  }
  ages();
  const seconds = Math.min(60, Number(document.body.dataset.refresh || 20) * 2 ** failures);
  timer = setTimeout(look, 1000 * seconds);
}

document.addEventListener("visibilitychange", look);
if (document.body.dataset.refresh) timer = setTimeout(look, 1000 * Number(document.body.dataset.refresh));
