// Holds a socket open, says what becomes of it, and opens another where it was merely lost.
"use strict";

const ENDED = 4401; // the session is over: do not connect again
const card = document.querySelector("[data-live]");
const openFor = card.querySelector("[data-open-for]");
const heard = card.querySelector("[data-heard]");
const address = new URL(card.dataset.live, location.href);
address.protocol = address.protocol.replace("http", "ws");

let socket;
let openedAt = null;

connect();
setInterval(tick, 1000);
card.querySelector("[data-say]").addEventListener("click", () => socket.send("hello"));

function connect() {
  socket = new WebSocket(address);
  socket.addEventListener("open", () => {
    openedAt = Date.now();
    tick();
    show("open");
  });
  socket.addEventListener("message", (event) => {
    heard.textContent = JSON.parse(event.data).heard;
  });
  socket.addEventListener("close", (event) => {
    openedAt = null;
    if (event.code === ENDED) show("ended");
    else lost();
  });
}

function lost() {
  show("lost");
  setTimeout(async () => ((await isLoggedOut()) ? show("ended") : connect()), 1000 + 2000 * Math.random());
}

// A handshake that is refused looks to a script like any other failure, so a request has to ask.
async function isLoggedOut() {
  try {
    return (await fetch("/live")).status === 401;
  } catch {
    return false;
  }
}

function show(state) {
  card.dataset.state = state;
  for (const part of card.querySelectorAll("[data-when]")) part.hidden = part.dataset.when !== state;
}

function tick() {
  if (openedAt !== null) openFor.textContent = `${Math.round((Date.now() - openedAt) / 1000)} s`;
}
