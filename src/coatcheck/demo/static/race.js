// Sends the race's form many times at once, draws when each request was under way, and counts.
"use strict";

const form = document.querySelector("form.lanes");
const total = Number(form.dataset.requests);
const shownCount = document.querySelector("[data-count]");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const how = event.submitter.value;
  const fields = new URLSearchParams(new FormData(form));
  fields.set("how", how);
  setDisabled(true);
  try {
    show(how, await race(fields));
  } catch (error) {
    result(how).textContent = `The race was stopped: ${error.message}`;
  } finally {
    setDisabled(false);
  }
});

async function race(fields) {
  const before = await count();
  const begun = performance.now();
  const laps = await Promise.all(Array.from({ length: total }, () => lap(fields, begun)));
  const after = await count();
  return { laps, before, after };
}

async function lap(fields, begun) {
  const headers = { Accept: "application/json" };
  const from = performance.now() - begun;
  const answer = await fetch("/race/add", { method: "POST", body: fields, headers });
  if (!answer.ok) throw new Error(`answer ${answer.status}`);
  await answer.json();
  return { from, to: performance.now() - begun };
}

async function count() {
  const answer = await fetch("/race/count");
  return (await answer.json()).count;
}

function show(how, { laps, before, after }) {
  const counted = after - before;
  const sentence = document.createElement("p");
  sentence.className = counted === total ? "score all" : "score lost";
  sentence.textContent = `${total} sent, ${counted} counted` + (counted === total ? "." : `: ${total - counted} lost.`);
  result(how).replaceChildren(sentence, ...chart(laps));
  shownCount.textContent = after;
}

function chart(laps) {
  const end = Math.max(...laps.map((one) => one.to));
  const bars = laps.map((one) => {
    const bar = document.createElement("span");
    bar.style.marginInlineStart = `${(100 * one.from) / end}%`;
    bar.style.inlineSize = `${(100 * (one.to - one.from)) / end}%`;
    return bar;
  });
  const figure = document.createElement("div");
  figure.className = "bars";
  figure.setAttribute("aria-hidden", "true");
  figure.append(...bars);
  const caption = document.createElement("p");
  caption.textContent = `When each was under way, within ${Math.round(end)} ms; the browser sends a few at a time.`;
  return [figure, caption];
}

function result(how) {
  return form.querySelector(`[data-result="${how}"]`);
}

function setDisabled(disabled) {
  for (const button of form.querySelectorAll("button")) button.disabled = disabled;
}
