// The figures of a run, drawn by Vega from specifications of the server. The interpreter of expressions (`ast`) needs no
// eval; styles that the libraries would add as text are in the style sheet.

const place = document.getElementById("figures");
const said = place?.querySelector("[role=status]");
const dark = matchMedia("(prefers-color-scheme: dark)");
const views = new Map();
const NARROW = 480;
let content = null, tag = null;

function library() {
  if (window.vegaEmbed) return Promise.resolve();
  return new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = place.dataset.library;
    script.type = "module";
    script.onload = done;
    script.onerror = () => failed(new Error("the drawing library did not load"));
    document.head.append(script);
  });
}

function look() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ?? (dark.matches ? "dark" : "light");
}

function frame(figure) {
  let found = document.getElementById(`figure-${figure.key}`);
  if (!found) {
    found = document.createElement("figure");
    found.id = `figure-${figure.key}`;
    found.className = "drawn";
    const title = document.createElement("h3"), drawing = document.createElement("div");
    drawing.className = "drawing";
    found.append(title, drawing, document.createElement("figcaption"));
    place.append(found);
  }
  found.querySelector("h3").textContent = figure.title;
  found.querySelector("figcaption").textContent = figure.caption;
  return found.querySelector(".drawing");
}

// What does not follow the width of its place: panels beside each other, cells of a fixed size, legends at the side.
function narrowed(spec, width) {
  if (width >= NARROW) return spec;
  if (spec.facet) return { ...spec, columns: 1, spec: { ...spec.spec, width: width - 110 } };
  const cell = (own) => ({ ...own, width: own.width?.step ? { step: Math.min(own.width.step, 26) } : 70 });
  return spec.hconcat ? { ...spec, hconcat: spec.hconcat.map(cell), spacing: 6 } : spec;
}

async function draw(again = false) {
  if (!content) return;
  const now = look(), theme = { ...content.themes[now], background: "transparent" };
  for (const figure of content.figures) {
    const drawing = frame(figure), width = drawing.clientWidth;
    const state = JSON.stringify([now, width, figure.spec]);
    if (!again && views.get(figure.key)?.state === state) continue;
    const spec = narrowed(structuredClone(figure.spec), width);
    const aside = { ...theme.legend, orient: "top", columns: 1 };
    const config = width < NARROW ? { ...theme, legend: aside } : theme;
    const fitted = typeof spec.width === "number" && spec.width + 160 > width;
    if (fitted) spec.width = width;
    // In Vega's specification: Vega-Lite warns of rows whose height is fixed, which stay as they are. At the right there
    // is room for the half of a last label.
    const fit = (vega) => (fitted ? { ...vega, autosize: { type: "fit-x", contains: "padding", resize: true }, padding: { left: 5, top: 5, bottom: 5, right: 16 } } : vega);
    views.get(figure.key)?.view.finalize();
    const made = await window.vegaEmbed(drawing, spec, {
      mode: "vega-lite", patch: fit, config, ast: true, actions: false, defaultStyle: false, tooltip: { disableDefaultStyle: true, theme: now },
    });
    views.set(figure.key, { state, view: made.view });
  }
}

async function ask() {
  if (document.hidden) return;
  const answer = await fetch(place.dataset.source, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
  if (!answer.ok) return;
  tag = answer.headers.get("ETag");
  content = await answer.json();
  if (content.figures.length > 0) {
    await library();
    await draw();
  }
  said.textContent = content.problem;
  said.hidden = !content.problem;
  place.hidden = content.figures.length === 0 && !content.problem;
}

if (place) {
  const later = () => setTimeout(() => ask().catch(report).finally(later), document.body.dataset.refresh === "2" ? 8000 : 60000);
  const report = (error) => { said.textContent = `The figures are not drawn: ${error.message}`; said.hidden = false; };
  ask().catch(report).finally(later);
  dark.addEventListener("change", () => draw());
  new MutationObserver(() => draw()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  let resized = null;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(draw, 200); });
}
