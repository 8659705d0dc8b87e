// Sends the image that is dropped or chosen to the adapter that is chosen, and shows its most likely classes.

const at = (id) => document.getElementById(id);
let adapters = [];
let largest = Infinity;
let file = null;
let asked = 0; // only the answer to the last question is shown

function say(text) {
  at("message").textContent = text;
  if (text) at("answer").hidden = true;
}

async function answerOf(response) {
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  if (response.status === 413 && !answer.reason) throw new Error("The file is too large.");
  throw new Error(answer.reason ?? `The server answered ${response.status}.`);
}

function show(answer) {
  at("classes").replaceChildren(
    ...answer.top.map(({ label, probability }) => {
      const row = document.createElement("tr");
      const [name, number, bar] = [0, 1, 2].map(() => row.insertCell());
      name.textContent = label;
      number.className = "number";
      number.textContent = `${(100 * probability).toPrecision(3)} %`;
      bar.className = "bar";
      const meter = document.createElement("meter");
      meter.value = probability;
      meter.setAttribute("aria-label", `probability of ${label}`);
      bar.append(meter);
      return row;
    }),
  );
  at("note").textContent = `Adapter ${answer.adapter}, ${answer.digest.slice(0, 12)}` + (answer.conversion ? `; pixels: ${answer.conversion}` : "");
  at("answer").hidden = false;
}

async function ask() {
  if (!file || !at("adapter").value) return;
  const question = ++asked;
  if (file.size > largest) {
    say(`${file.name} has ${(file.size / 2 ** 20).toFixed(1)} MB; at most ${largest / 2 ** 20} MB are taken.`);
    return;
  }
  say("");
  try {
    const response = await fetch(`/predict?top=5&adapter=${encodeURIComponent(at("adapter").value)}`, {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: file,
    });
    const answer = await answerOf(response);
    if (question === asked) show(answer);
  } catch (error) {
    if (question === asked) say(error instanceof TypeError ? "The server does not answer." : `${file.name}: ${error.message}`);
  }
}

function take(chosen) {
  if (!chosen) return;
  file = chosen;
  const picture = at("picture");
  URL.revokeObjectURL(picture.src);
  picture.onload = () => (picture.hidden = false);
  picture.onerror = () => (picture.hidden = true); // browsers do not show every format that the server reads
  picture.src = URL.createObjectURL(file);
  picture.alt = file.name;
  at("named").textContent = file.name;
  ask();
}

function describe() {
  const chosen = adapters.find((one) => one.digest === at("adapter").value);
  at("about").textContent = chosen ? `${chosen.classes} ${chosen.task === "multilabel" ? "labels" : "classes"}` : "";
}

const drop = at("drop");
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files[0]);
});
at("file").addEventListener("change", (event) => take(event.target.files[0]));
at("adapter").addEventListener("change", () => {
  describe();
  ask();
});

try {
  const known = await answerOf(await fetch("/adapters"));
  ({ adapters, largest } = known);
  at("adapter").replaceChildren(...adapters.map(({ name, digest }) => new Option(name, digest)));
  describe();
} catch (error) {
  say(error instanceof TypeError ? "The server does not answer." : error.message);
}
