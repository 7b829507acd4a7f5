// The page is whole without this: details that a link leads into open, all of them do for printing, and
// runs can be filtered by name.
"use strict";
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let one = target; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", reveal);
reveal();

// Runs stay folded on paper: their provenance is hundreds of pages.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("main details:not(.run, [open])")].filter((one) => !one.closest("details.run"));
  for (const one of opened) one.open = true;
});
addEventListener("afterprint", () => {
  for (const one of opened) one.open = false;
});

const contents = document.querySelector("nav details");
if (matchMedia("(max-width: 70rem)").matches) contents.open = false;

const filter = document.getElementById("filter");
if (filter) {
  const runs = [...document.querySelectorAll("details.run")];
  filter.hidden = false;
  filter.querySelector("input").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/);
    for (const run of runs) {
      const text = run.textContent.toLowerCase();
      run.hidden = !words.every((word) => text.includes(word));
    }
    filter.querySelector("[role=status]").textContent = `${runs.filter((run) => !run.hidden).length} of ${runs.length} runs`;
  });
}
