"use strict";
const root = document.documentElement;
addEventListener("error", event => { root.dataset.error = event.message; });

const tip = document.getElementById("tip");

// What a request found, beside it; and the request that had left it, marked.
function show(request) {
  hide();
  const [who, found] = request.getAttribute("aria-label").split(": ");
  const name = document.createElement("b");
  name.textContent = who;
  const lines = found.split("; ").flatMap(line => [line, document.createElement("br")]);
  tip.replaceChildren(name, ...lines);
  tip.hidden = false;
  const box = request.getBoundingClientRect();
  const left = Math.min(box.left, root.clientWidth - tip.offsetWidth - 8);
  tip.style.left = `${scrollX + Math.max(left, 8)}px`;
  tip.style.top = `${scrollY + box.bottom + 8}px`;
  const from = request.dataset.from;
  if (from) request.closest("svg").querySelector(`[data-number="${from}"]`)?.classList.add("from");
}

function hide() {
  tip.hidden = true;
  for (const marked of document.querySelectorAll(".from")) marked.classList.remove("from");
}

// One stop for the Tab key in each run; the arrow keys move within a worker, and between workers.
function move(svg, to) {
  if (!to) return;
  for (const request of svg.querySelectorAll(".q")) request.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
  // A window in the background tells nobody of its focus.
  show(to);
}

function beside(request, lanes, step) {
  const lane = lanes[lanes.indexOf(request.parentElement) + step];
  const x = request.getBoundingClientRect().left;
  const away = other => Math.abs(other.getBoundingClientRect().left - x);
  const nearer = (best, other) => away(other) < away(best) ? other : best;
  return lane && [...lane.children].reduce(nearer);
}

for (const svg of document.querySelectorAll("figure svg")) {
  const lanes = [...svg.querySelectorAll("[role=list]")];
  svg.addEventListener("keydown", event => {
    const request = event.target.closest(".q");
    if (!request) return;
    const all = request.parentElement.children;
    const to = {
      ArrowLeft: () => request.previousElementSibling,
      ArrowRight: () => request.nextElementSibling,
      ArrowUp: () => beside(request, lanes, -1),
      ArrowDown: () => beside(request, lanes, 1),
      Home: () => all[0],
      End: () => all[all.length - 1],
    }[event.key];
    if (event.key === "Escape") hide();
    if (!to) return;
    event.preventDefault();
    move(svg, to());
  });
  svg.addEventListener("focusin", event => show(event.target.closest(".q")));
  svg.addEventListener("focusout", hide);
  svg.addEventListener("pointerover", event => {
    const request = event.target.closest(".q");
    if (request) show(request); else hide();
  });
  svg.addEventListener("pointerleave", hide);
}
root.dataset.requests = document.querySelectorAll(".q").length;
