// What is judged stays in this browser, under the key of the dataset, and leaves it as corrections.csv.
const form = document.querySelector("form.judged");
const told = form.querySelector("output");
const kept = `segsmith review ${form.dataset.key}`;
const cell = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function verdicts() {
  return [...form.querySelectorAll("fieldset")].flatMap((field) => {
    const chosen = field.querySelector(":checked");
    return chosen ? [{ field, name: chosen.name, verdict: chosen.value }] : [];
  });
}

function tell() {
  const count = verdicts().length;
  told.textContent = `${count} of ${form.querySelectorAll("fieldset").length} judged`;
}

form.addEventListener("change", () => {
  try {
    localStorage.setItem(kept, JSON.stringify(verdicts().map(({ name, verdict }) => [name, verdict])));
  } catch {
    // a browser that keeps nothing for files: save before closing
  }
  tell();
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const rows = verdicts().map(({ field, verdict }) => {
    const { id, runs } = field.dataset;
    const ofImage = verdict === "leave out";
    return [id, ofImage ? "" : field.dataset.class, verdict, verdict === "replace" ? runs : ""];
  });
  const text = [["image_id", "class", "verdict", "runs"], ...rows].map((row) => row.map(cell).join(",")).join("\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${text}\n`], { type: "text/csv" }));
  link.download = "corrections.csv";
  link.click();
});

try {
  const before = new Map(JSON.parse(localStorage.getItem(kept) ?? "[]"));
  for (const choice of form.querySelectorAll("input")) {
    choice.checked = before.get(choice.name) === choice.value;
  }
} catch {
  // nothing was kept
}
tell();
