// Who are you? Then the side of the customer or of the provider, and the news.

import { Api, Problem } from "./api.js";
import { Customer } from "./customer.js";
import { Provider } from "./provider.js";
import { $, announce, newsItem } from "./view.js";

const NEWS_SHOWN = 30;

// A link may carry the key behind #, where no server and no log sees it; it leaves the address bar at once.
function keyFromLink() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.has("key")) return;
  sessionStorage.setItem("key", given.get("key"));
  sessionStorage.setItem("customer", given.get("customer") ?? "");
  history.replaceState(null, "", location.pathname);
}

function gate(message) {
  sessionStorage.removeItem("key");
  $("gate").hidden = false;
  $("gate-error").hidden = !message;
  $("gate-error").textContent = message ?? "";
  $("key").focus();
}

async function enter(key, customer) {
  const api = new Api(key, customer);
  const me = await api.get("v1/me");
  if (me.role === "admin") throw new Problem(403, "forbidden", "An admin's key neither buys nor serves. Take a customer's or a provider's.");
  if (me.role === "service" && !customer) {
    $("name-row").hidden = false;
    $("customer-name").focus();
    throw new Problem(400, "customer-required", "Say who you are.");
  }
  sessionStorage.setItem("key", key);
  sessionStorage.setItem("customer", customer ?? "");
  await open(api, me, customer);
}

async function open(api, me, customer) {
  const side = me.role === "provider" ? "provider" : "customer";
  $("gate").hidden = true;
  $(side).hidden = false;
  const name = side === "provider" ? (await api.get(`v1/providers/${me.subject}`)).name : customer || me.subject;
  $("role").textContent = side === "provider" ? `provider ${name}` : name;
  document.title = side === "provider" ? "Peakclip provider" : "Peakclip shop";
  for (const id of ["leave", "link"]) $(id).hidden = false;
  const view = side === "provider" ? new Provider(api) : new Customer(api, customer || me.subject);
  await view.start();
  await news(api, $(`${side}-feed`), view);
}

async function news(api, list, view) {
  const seen = new Set();
  const show = (one) => {
    if (seen.has(one.notification_id)) return;
    seen.add(one.notification_id);
    list.prepend(newsItem(one));
    while (list.children.length > NEWS_SHOWN) list.lastChild.remove();
  };
  const known = await api.get(`v1/notifications?limit=${NEWS_SHOWN}`).catch(() => ({ items: [] }));
  for (const one of known.items.reverse()) show(one);
  api.listen("v1/notifications/stream", {
    link: (up) => {
      $("link").dataset.link = up ? "live" : "lost";
      $("link").textContent = up ? "Live" : "Not connected";
    },
    event: ({ data }) => {
      if (!data.notification_id) return;
      show(data);
      announce(data.title);
      view.refresh(data.order_id);
    },
  });
}

$("leave").addEventListener("click", () => {
  sessionStorage.clear();
  location.reload();
});

$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await enter($("key").value.trim(), $("customer-name").value.trim());
  } catch (problem) {
    gate(problem.status === 401 ? "This key is not known or was revoked." : problem.message);
  }
});

keyFromLink();
const key = sessionStorage.getItem("key");
if (key) enter(key, sessionStorage.getItem("customer")).catch((problem) => gate(problem.message));
else gate();
