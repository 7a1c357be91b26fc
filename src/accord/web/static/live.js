// The overview, fetched again every few seconds while somebody looks at it.
import { one, show } from "./view.js";

const live = one("#live");

async function refresh() {
  if (document.hidden || live.contains(document.activeElement) || String(getSelection())) return;
  try {
    const response = await fetch("/admin/live");
    if (response.status === 401) location.reload();
    if (response.ok) show(live, await response.text());
  } catch {
    // The next try may do better; what is shown stays.
  }
}

setInterval(refresh, Number(live.dataset.every) * 1000);
