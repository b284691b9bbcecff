// The provider's side: what could be taken, and what was.

import { money } from "./model.js";
import { $, make, orderCard, sync, toast } from "./view.js";

const ORDERS_MS = 2000;

export class Provider {
  constructor(api) {
    Object.assign(this, { api, open: [], taken: [], names: new Map() });
  }

  async start() {
    await Promise.all([this.readNames().catch(() => {}), this.refresh()]);
    this.draw();
    setInterval(() => this.refresh().catch(() => {}), ORDERS_MS);
  }

  // Of sales and services, by their ids.
  async readNames() {
    const [sales, packages] = await Promise.all([this.api.get("v1/sales"), this.api.get("v1/service-packages")]);
    for (const sale of sales.items) this.names.set(sale.sale_id, sale.product);
    for (const one of packages.items) this.names.set(one.service_package_id, one.name);
  }

  async refresh() {
    const [created, paid, all] = await Promise.all(["v1/orders?status=created", "v1/orders?status=paid", "v1/orders"].map((path) => this.api.get(path)));
    const free = (order) => !order.provider_id;
    this.open = [...created.items, ...paid.items].filter(free);
    this.taken = all.items.filter((order) => !free(order));
    this.draw();
  }

  async act(name, order) {
    try {
      await this.api.post(`v1/orders/${order.order_id}/${name}`);
    } catch (problem) {
      toast(problem.kind === "illegal-transition" && name === "accept" ? "Somebody else was faster." : problem.message);
    }
    await this.refresh().catch(() => {});
  }

  title(order) {
    const name = this.names.get(order.sale_id ?? order.service_package_id) ?? (order.sale_id ? "Flash sale" : "Service for a pet");
    return order.quantity > 1 ? `${order.quantity} × ${name}` : name;
  }

  draw() {
    const card = (order) => orderCard(order, {
      role: "provider",
      title: this.title(order),
      act: (...all) => this.act(...all),
      extra: { print: "about", node: () => make("p", { class: "quiet" }, about(order)) },
    });
    sync($("open"), this.open.map(card), "Nobody is waiting.");
    sync($("taken"), this.taken.map(card), "You have taken nothing yet.");
  }
}

function about(order) {
  const parts = [`for ${order.customer_id}`, money(order.amount_cents)];
  if (order.service_date) parts.push(new Date(order.service_date).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" }));
  if (order.address) parts.push(order.address);
  return parts.join(" · ");
}
