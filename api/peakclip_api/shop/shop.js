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

function gate(message, status) {
  if (status === 401 || status === 403) sessionStorage.removeItem("key"); // a shop that cannot be reached may come back
  for (const id of ["customer", "provider"]) $(id).hidden = true;
  $("gate").hidden = false;
  $("gate-error").hidden = !message;
  $("gate-error").textContent = message ?? "";
  $("key").focus();
}

async function enter(key, customer) {
  // A browser sends nothing else in a header, and would call it an unreachable shop.
  if (!/^[\x21-\x7e]+$/.test(key)) throw new Problem(401, "unauthorized", "This is no key.");
  if (!/^[\x20-\x7e]*$/.test(customer ?? "")) throw new Problem(400, "customer-required", "Write your name without accents, please.");
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
  const name = side === "provider" ? (await api.get(`v1/providers/${encodeURIComponent(me.subject)}`)).name : customer || me.subject;
  $("gate").hidden = true;
  $(side).hidden = false;
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
  const known = await api.get(`v1/notifications?limit=${NEWS_SHOWN}`).catch(() => null);
  const newest = known && (known.items[0]?.notification_id ?? "0"); // nothing that comes meanwhile is missed
  for (const one of known?.items.reverse() ?? []) show(one);
  api.listen("v1/notifications/stream", {
    link: (up) => {
      $("link").dataset.link = up ? "live" : "lost";
      $("link").textContent = up ? "Live" : "Not connected";
    },
    event: ({ data }) => {
      if (!data.notification_id) return;
      show(data);
      announce(data.title);
      view.refresh(data.order_id).catch(() => {}); // the next round asks again
    },
  }, newest);
}

$("leave").addEventListener("click", () => {
  sessionStorage.clear();
  location.reload();
});

$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = $("key-form").querySelector("button");
  if (button.disabled) return;
  button.disabled = true; // who comes in twice would be there twice
  try {
    await enter($("key").value.trim(), $("customer-name").value.trim());
  } catch (problem) {
    gate(problem.status === 401 ? "This key is not known or was revoked." : problem.message, problem.status);
  }
  button.disabled = false;
});

keyFromLink();
const key = sessionStorage.getItem("key");
if (key) enter(key, sessionStorage.getItem("customer")).catch((problem) => gate(problem.message, problem.status));
else gate();
