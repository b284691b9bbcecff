// Small helpers around the document, and the two things both sides show: orders and news.

import { actions, clock, count, money, orderWords, placeNow, progress, STEP_WORDS } from "./model.js";

export const $ = (id) => document.getElementById(id);

// make("p", {class: "x"}, "text", child …): text is always text, never markup.
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

let toastTimer;
export function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => ($("toast").hidden = true), 6000);
}

export const announce = (text) => ($("announce").textContent = text);

// Says it only if it is new: nothing in the document changes otherwise.
export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Replaces the children whose content changed and leaves the others alone, so that focus and animations stay.
export function sync(parent, wanted, empty) {
  const nodes = wanted.length ? wanted : [{ id: "empty", print: empty, node: () => make("p", { class: "empty" }, empty) }];
  const before = new Map([...parent.children].map((child) => [child.dataset.id, child]));
  nodes.forEach(({ id, print, node }, index) => {
    let child = before.get(id);
    if (!child || child.dataset.print !== print) {
      const fresh = node();
      fresh.dataset.id = id;
      fresh.dataset.print = print;
      child?.replaceWith(fresh);
      child = fresh;
    }
    before.delete(id);
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
  for (const left of before.values()) left.remove();
}

// A click while the last one is still at work does nothing; afterwards the button works again, whatever came of it.
// Not `disabled`, which would take the keyboard's focus away.
function once(work) {
  return async ({ currentTarget: button }) => {
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    await work();
    button.ariaDisabled = null;
  };
}

const ACTION_WORDS = { pay: "Pay", cancel: "Cancel", accept: "Accept", start: "Start", complete: "Complete" };

export function orderCard(order, { role, title, act, extra }) {
  const buttons = actions(order, role).map((name) =>
    make("button", { type: "button", class: name === "cancel" ? "plain" : "act", "data-action": name, onclick: once(() => act(name, order)) },
      name === "pay" ? `Pay ${money(order.amount_cents)}` : ACTION_WORDS[name]));
  return {
    id: order.order_id,
    print: JSON.stringify([order.status, order.version, order.reason, order.paid_at, title, extra?.print, order.known]),
    node: () => make("article", { class: "order", "data-status": order.status },
      make("h2", {}, title),
      make("p", { class: "words" }, orderWords(order)),
      live(order, role),
      order.status === "cancelled" || order.status === "rejected" ? null : steps(order),
      make("div", { class: "buttons" }, ...buttons),
      extra?.node() ?? null,
      make("p", { class: "id" }, order.order_id.slice(0, 8))),
  };
}

function live(order, role) {
  if (order.status === "queued") {
    return make("div", { class: "line" }, make("p", { class: "value", "data-place": "" }, "–"), make("p", { class: "quiet", "data-eta": "" }),
      make("div", { class: "bar" }, make("i", { "data-bar": "" })));
  }
  if (order.status === "pending_payment" && role !== "provider") {
    return make("div", { class: "line pay" }, make("p", { class: "value", "data-left": "" }, "–"), make("p", { class: "quiet" }, "left to pay"),
      make("div", { class: "bar" }, make("i", { "data-bar": "" })));
  }
  return null;
}

function steps(order) {
  return make("ol", { class: "steps" }, ...progress(order).map(({ step, state }) =>
    make("li", { "data-state": state, "aria-current": state === "now" ? "step" : null }, STEP_WORDS[step])));
}

// Moves what counts down, a few times a second, without touching anything else.
export function tick(card, order, now) {
  const bar = card.querySelector("[data-bar]");
  if (order.status === "queued" && order.position) {
    const place = placeNow(order.position, order.eta_seconds, now - order.known);
    card.querySelector("[data-place]").textContent = `No. ${count(place)}`;
    const eta = order.eta_seconds === null || order.eta_seconds === undefined ? null : Math.max(0, order.eta_seconds - (now - order.known));
    card.querySelector("[data-eta]").textContent = eta === null ? "in line" : `in line, about ${clock(eta)}`;
    bar.style.setProperty("--share", 1 - place / Math.max(order.firstPosition, place));
  }
  if (order.status === "pending_payment" && bar) {
    const left = Date.parse(order.expires_at) / 1000 - now;
    card.querySelector("[data-left]").textContent = left > 0 ? clock(left) : "Too late";
    const whole = Date.parse(order.expires_at) / 1000 - Date.parse(order.committed_at ?? order.accepted_at) / 1000;
    bar.style.setProperty("--share", Math.max(0, Math.min(1, left / whole)));
    card.toggleAttribute("data-late", left <= 0);
    card.querySelectorAll("[data-action=pay]").forEach((button) => (button.disabled = left <= 0));
  }
}

export function newsItem(news) {
  const at = new Date(news.created_at);
  return make("li", { "data-kind": news.kind },
    make("time", { datetime: at.toISOString() }, at.toLocaleTimeString("en", { hour12: false })),
    make("strong", {}, news.title), make("p", {}, news.text));
}
