// Which key does what. Keys typed into a box, with Ctrl or Alt, or while a dialog is open are left alone, and single
// letters can be switched off for people whose speech input types them (WCAG 2.1.4).
const SWITCH = "accord.keys";

export const keysOn = () => localStorage.getItem(SWITCH) !== "off";
export const setKeys = (on) => localStorage.setItem(SWITCH, on ? "on" : "off");

export function listen(handlers) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const target = event.target instanceof Element ? event.target : document.body;
    const typing = target.matches("textarea, select, input:not([type=radio], [type=checkbox])");
    if (typing) {
      if (event.key === "Escape") target.blur();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) handlers.save(event);
      return;
    }
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "z") {
      event.preventDefault();
      handlers.undo();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = event.key.startsWith("Arrow");
    if (arrow && target.matches("input[type=radio]")) return; // they move between the buttons of a group
    if (event.key === "Enter" && target.matches("button, a, summary")) return;
    if (event.key.length === 1 && event.key !== "?" && !keysOn()) return;
    if (handlers.key(event)) event.preventDefault();
  });
}
