"use strict";
const root = document.documentElement;
addEventListener("error", event => { root.dataset.error = event.message; });
addEventListener("unhandledrejection", event => { root.dataset.error = event.reason; });

const button = document.querySelector("button");
const status = document.querySelector("[role=status]");
const users = ["alice", "bob", "carol", null];

// Every fourth request comes from nobody in particular.
button.addEventListener("click", async () => {
  button.disabled = true;
  status.textContent = "sending …";
  const ask = number => {
    const user = users[number % users.length];
    return fetch(button.dataset.path, { headers: user ? { "x-user": user } : {} });
  };
  await Promise.all(Array.from({ length: 40 }, (_, number) => ask(number)));
  location.reload();
});
