// The one place where HTML from the server becomes part of the page. The server has cleaned it twice; the
// page's policy lets no other code do this (Trusted Types).
const policy = globalThis.trustedTypes?.createPolicy("accord", { createHTML: (html) => html });

export function show(element, html) {
  element.innerHTML = policy ? policy.createHTML(html) : html;
}

export const one = (selector, root = document) => root.querySelector(selector);
export const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// A random UUID; crypto.randomUUID is missing where a page comes over plain http from another machine.
export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
