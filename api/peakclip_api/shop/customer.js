// The customer's side: what is on sale, and what has become of one's orders.

import { LIVE, clock, count, money, saleState } from "./model.js";
import { Services } from "./services.js";
import { $, announce, make, orderCard, put, sync, tick, toast } from "./view.js";

const SALES_MS = 2000;
const ORDERS_MS = 1000;

export class Customer {
  constructor(api, customerId) {
    this.services = new Services(api, customerId, (order) => {
      this.take(order);
      this.drawOrders();
    });
    Object.assign(this, { api, sales: [], orders: new Map(), buying: new Set(), reviewed: new Map() });
  }

  async start() {
    await Promise.all([this.readSales(), this.readOrders(), this.services.start()]);
    setInterval(() => this.readSales().catch(() => {}), SALES_MS);
    setInterval(() => this.refresh(), ORDERS_MS);
    setInterval(() => this.tick(), 200);
  }

  async readSales() {
    this.sales = (await this.api.get("v1/sales")).items;
    this.drawSales();
  }

  async readOrders() {
    for (const order of (await this.api.get("v1/orders?limit=50")).items) this.take(order);
    this.drawOrders();
  }

  take(order) {
    const before = this.orders.get(order.order_id);
    if ((before?.version ?? 0) > (order.version ?? 0)) return; // an answer that was overtaken
    const firstPosition = before?.firstPosition ?? order.position;
    this.orders.set(order.order_id, { ...before, ...order, firstPosition, known: order.status === "queued" ? this.api.now() : undefined, since: before?.since ?? Date.now() });
    if (before && before.status !== order.status) announce(`${this.title(order)}: ${order.status.replace("_", " ")}`);
  }

  async refresh(orderId) {
    const ids = orderId ? [orderId] : [...this.orders.values()].filter((order) => LIVE.has(order.status)).slice(0, 20).map((order) => order.order_id);
    await Promise.all(ids.map(async (id) => {
      try {
        this.take(await this.api.get(`v1/orders/${id}`));
      } catch { /* the next round asks again */ }
    }));
    this.drawOrders();
  }

  async buy(sale, quantity) {
    if (this.buying.has(sale.sale_id)) return;
    this.buying.add(sale.sale_id);
    this.drawSales();
    try {
      const accepted = await this.api.post(`v1/sales/${sale.sale_id}/orders`, { quantity });
      this.take({ ...accepted, sale_id: sale.sale_id, quantity, amount_cents: sale.price_cents * quantity });
      announce(`Accepted. Place ${accepted.position} in line.`);
    } catch (problem) {
      toast(problem.message);
    }
    this.buying.delete(sale.sale_id);
    this.drawSales();
    this.drawOrders();
  }

  async act(name, order) {
    try {
      this.take(await this.api.post(`v1/orders/${order.order_id}/${name}`));
    } catch (problem) {
      toast(problem.message);
    }
    await this.refresh(order.order_id);
  }

  async review(order, rating, comment) {
    try {
      await this.api.post("v1/reviews", { order_id: order.order_id, rating, ...(comment && { comment }) });
      this.reviewed.set(order.order_id, rating);
    } catch (problem) {
      if (problem.kind === "already-reviewed") this.reviewed.set(order.order_id, 0);
      else toast(problem.message);
    }
    this.drawOrders();
  }

  title(order) {
    const sale = this.sales.find((one) => one.sale_id === order.sale_id);
    const name = sale?.product ?? (order.sale_id ? "Flash sale" : this.services.title(order));
    return order.quantity > 1 ? `${order.quantity} × ${name}` : name;
  }

  drawSales() {
    // What changes all the time is no part of the card's print: whoever has chosen a quantity, or comes with the keyboard,
    // would lose it every other second.
    sync($("sales"), this.sales.map((sale) => ({
      id: sale.sale_id,
      print: JSON.stringify([sale.product, sale.price_cents, sale.per_customer_limit, sale.pay_within_seconds]),
      node: () => this.saleCard(sale),
    })), "Nothing is on sale.");
    this.tickSales();
  }

  tickSales() {
    const now = this.api.now();
    const cards = new Map([...$("sales").children].map((card) => [card.dataset.id, card]));
    for (const sale of this.sales) {
      const card = cards.get(sale.sale_id);
      const { open, words } = saleState(sale, now);
      const busy = this.buying.has(sale.sale_id);
      const buy = card.querySelector("[data-action=buy]");
      card.dataset.open = open;
      card.querySelector(".bar i").style.setProperty("--share", sale.stock ? sale.available / sale.stock : 0);
      put(card.querySelector("[data-left]"), `${count(sale.available)} of ${count(sale.stock)} left`);
      put(card.querySelector(".window"), words);
      put(buy, busy ? "Ordering…" : "Buy");
      buy.disabled = !open;
      buy.ariaDisabled = busy ? "true" : null;
    }
  }

  saleCard(sale) {
    const most = Math.min(sale.per_customer_limit, 10);
    const quantity = make("select", { "aria-label": "How many" }, ...Array.from({ length: most }, (_, index) => make("option", {}, String(index + 1))));
    return make("article", { class: "sale" },
      make("h2", {}, sale.product),
      make("p", { class: "price" }, money(sale.price_cents)),
      make("div", { class: "bar", "aria-hidden": "true" }, make("i")),
      make("p", { class: "quiet" }, make("span", { "data-left": "" }), ` · ${sale.per_customer_limit} each · pay within ${clock(sale.pay_within_seconds)}`),
      make("p", { class: "quiet window" }),
      make("div", { class: "buttons" }, most > 1 ? quantity : null,
        make("button", { type: "button", class: "act", "data-action": "buy", onclick: () => this.buy(sale, Number(quantity.value) || 1) })));
  }

  drawOrders() {
    const orders = [...this.orders.values()].sort((a, b) => Date.parse(b.accepted_at ?? 0) - Date.parse(a.accepted_at ?? 0) || b.since - a.since);
    sync($("mine"), orders.map((order) => orderCard(order, {
      role: "customer", title: this.title(order), act: (...all) => this.act(...all), extra: this.reviewForm(order),
    })), "Nothing yet. Buy something.");
    this.tick();
  }

  reviewForm(order) {
    if (order.status !== "completed" || !order.provider_id) return null;
    const given = this.reviewed.get(order.order_id);
    if (given !== undefined) return { print: `reviewed ${given}`, node: () => make("p", { class: "quiet" }, given ? `You gave ${given} of 5.` : "You have reviewed it.") };
    return {
      print: "review",
      node: () => make("form", { class: "review", onsubmit: (event) => {
        event.preventDefault();
        const form = new FormData(event.target);
        if (form.get("rating")) this.review(order, Number(form.get("rating")), form.get("comment"));
      } },
        make("fieldset", { class: "stars" }, make("legend", {}, "How was it?"), ...[1, 2, 3, 4, 5].map((star) =>
          make("label", {}, make("input", { type: "radio", name: "rating", value: star }), make("span", {}, String(star))))),
        make("input", { name: "comment", maxlength: "1000", placeholder: "A word to the provider", "aria-label": "Comment" }),
        make("button", { type: "submit", class: "act" }, "Review")),
    };
  }

  tick() {
    this.tickSales();
    const now = this.api.now();
    for (const card of $("mine").children) {
      const order = this.orders.get(card.dataset.id);
      if (order) tick(card, order, now);
    }
  }
}
