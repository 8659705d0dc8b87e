// In Optuna's pages: they do not say why a study was not renamed or removed, nor that files go with a run.

const editable = document.currentScript.hasAttribute("data-editable");
const ask = window.fetch;
const GOES = "Remove this run for good, with its trials, its folder (checkpoints, report, exported model) and the weights "
  + "that no other run uses?";

function say(reason) {
  document.getElementById("refused")?.remove();
  const box = document.createElement("div"), close = document.createElement("button");
  box.id = "refused";
  box.setAttribute("role", "alert");
  Object.assign(box.style, {
    position: "fixed", inset: "12px 12px auto", zIndex: 99999, margin: "0 auto", maxWidth: "60ch", padding: "10px 14px",
    background: "#fff", color: "#a32014", border: "1px solid #a32014", borderRadius: "4px", font: "14px system-ui, sans-serif",
    overflowWrap: "anywhere",
  });
  close.type = "button";
  close.textContent = "Close";
  close.style.marginLeft = "12px";
  close.addEventListener("click", () => box.remove());
  box.append(reason, close);
  document.body.append(box);
}

window.fetch = async (address, options = {}) => {
  const method = options.method ?? "GET";
  if (editable && method === "DELETE" && /\/api\/studies\/[0-9]+$/.test(String(address)) && !window.confirm(GOES)) {
    return new Response('{"reason": "nothing was removed"}', { status: 400, headers: { "Content-Type": "application/json" } });
  }
  const answer = await ask(address, options);
  if (!answer.ok && method !== "GET") {
    const said = await answer.clone().json().catch(() => ({}));
    if (said.reason) say(said.reason);
  }
  return answer;
};
