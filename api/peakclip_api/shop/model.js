// What the page says, from what the API says. Pure: no clock, no network, no document.

export const LIVE = new Set(["queued", "created", "pending_payment", "paid", "accepted", "started"]);
export const STEPS = ["queued", "pending_payment", "paid", "accepted", "started", "completed"];
const CANCELLABLE = new Set(["created", "pending_payment", "paid", "accepted"]);

const REASONS = {
  "sold-out": "Sold out when its turn came.",
  "limit-reached": "More than one customer may have.",
  "expired": "Not paid in time. The unit is on sale again.",
  "cancelled-by-customer": "You cancelled it.",
  "cancelled-by-admin": "Cancelled by the shop.",
  "unknown-sale": "There is no such sale any more.",
  "unknown-pet": "The pet is not known any more.",
  "unknown-package": "The service is not offered any more.",
};

export const money = (cents) => (cents / 100).toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
export const count = (number) => number.toLocaleString("en");

// Seconds as a person reads them: 8 s, 1:05, 2:00:00.
export function clock(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole < 60) return `${whole} s`;
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

// A place in line now, from what was said `elapsed` seconds ago: it goes down at the rate that the estimate implies.
export function placeNow(position, etaSeconds, elapsed) {
  if (!etaSeconds || etaSeconds <= 0) return position;
  return Math.max(1, Math.round(position - (position / etaSeconds) * elapsed));
}

export function saleState(sale, now) {
  const [opens, closes] = [Date.parse(sale.opens_at) / 1000, Date.parse(sale.closes_at) / 1000];
  if (now < opens) return { open: false, words: `Opens in ${clock(opens - now)}` };
  if (now >= closes) return { open: false, words: "Closed" };
  if (sale.available <= 0) return { open: true, words: "Sold out. Units come back when somebody does not pay." };
  return { open: true, words: closes - now < 86400 ? `Closes in ${clock(closes - now)}` : "Open" };
}

export function orderWords(order) {
  switch (order.status) {
    case "queued": return "In line";
    case "pending_payment": return "Yours, once it is paid";
    case "created": return "Waiting for a provider";
    case "paid": return "Paid. Waiting for a provider";
    case "accepted": return "A provider has accepted";
    case "started": return "The service has started";
    case "completed": return "Completed";
    case "cancelled": return `Cancelled. ${REASONS[order.reason] ?? ""}`;
    case "rejected": return `Not sold. ${REASONS[order.reason] ?? ""}`;
    default: return order.status;
  }
}

export function actions(order, role) {
  if (role === "provider") {
    return { created: ["accept"], paid: ["accept"], accepted: ["start"], started: ["complete"] }[order.status] ?? [];
  }
  const unpaid = !order.paid_at && ["pending_payment", "created", "accepted", "started", "completed"].includes(order.status);
  return [...(unpaid ? ["pay"] : []), ...(CANCELLABLE.has(order.status) ? ["cancel"] : [])];
}

// How far an order has come: done, now or ahead for each step; ordinary orders have no payment to wait for.
export function progress(order) {
  const steps = order.sale_id ? STEPS : ["created", "accepted", "started", "completed"];
  const at = steps.indexOf(order.status === "paid" && !order.sale_id ? "created" : order.status);
  return steps.map((step, index) => ({ step, state: index < at ? "done" : index === at ? "now" : "ahead" }));
}

export const STEP_WORDS = {
  queued: "In line", pending_payment: "Pay", created: "Ordered", paid: "Paid", accepted: "Accepted", started: "Started", completed: "Done",
};
