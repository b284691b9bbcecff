// Ordinary orders: a service for a pet, at a time, where the customer lives if that is known.

import { money } from "./model.js";
import { $, make, sync, toast } from "./view.js";

export class Services {
  constructor(api, customerId, ordered) {
    Object.assign(this, { api, customerId, ordered, packages: [], pets: [], place: {} });
  }

  async start() {
    const ask = (path) => this.api.get(path).catch(() => null);
    const [packages, pets, me] = await Promise.all([ask("v1/service-packages"), ask("v1/pets"), ask(`v1/customers/${encodeURIComponent(this.customerId)}`)]);
    this.packages = (packages?.items ?? []).filter((one) => one.active !== false);
    this.pets = pets?.items ?? [];
    if (typeof me?.latitude === "number") this.place = { latitude: me.latitude, longitude: me.longitude };
    this.draw();
  }

  title(order) {
    const name = this.packages.find((one) => one.service_package_id === order.service_package_id)?.name ?? "Service";
    const pet = this.pets.find((one) => one.pet_id === order.pet_id)?.name;
    return pet ? `${name} for ${pet}` : name;
  }

  async book(offered, form, button) {
    button.disabled = true;
    try {
      const pet_id = form.get("pet");
      const service_date = new Date(form.get("at")).toISOString();
      const answer = await this.api.post("v1/orders", { pet_id, service_package_id: offered.service_package_id, service_date, ...this.place });
      this.ordered(await this.api.get(`v1/orders/${answer.order_id}`));
    } catch (problem) {
      toast(problem.message);
    }
    button.disabled = false;
  }

  draw() {
    $("services-section").hidden = !this.packages.length || !this.pets.length;
    sync($("services"), this.packages.map((one) => ({ id: one.service_package_id, print: JSON.stringify([one, this.pets]), node: () => this.card(one) })), "");
  }

  card(offered) {
    const tomorrow = new Date(Date.now() + 86400000);
    tomorrow.setHours(10, 0, 0, 0);
    const local = new Date(tomorrow - tomorrow.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
    return make("form", { class: "sale", onsubmit: (event) => {
      event.preventDefault();
      this.book(offered, new FormData(event.target), event.submitter);
    } },
      make("h2", {}, offered.name),
      make("p", { class: "price" }, money(offered.price_cents)),
      make("p", { class: "quiet" }, `${offered.duration_minutes} min`),
      make("label", {}, make("span", { class: "quiet" }, "For "), make("select", { name: "pet" }, ...this.pets.map((pet) => make("option", { value: pet.pet_id }, pet.name)))),
      make("label", {}, make("span", { class: "quiet" }, "At "), make("input", { name: "at", type: "datetime-local", required: true, value: local })),
      make("div", { class: "buttons" }, make("button", { type: "submit", class: "act", "data-action": "book" }, "Book")));
  }
}
