// The secret of a sign-in link stands behind the #, which browsers do not send: it is in no log.
const state = document.querySelector("#state");
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname);

async function enter() {
  if (!token) return "This is not a whole sign-in link.";
  const form = new FormData();
  form.append("token", token);
  try {
    const response = await fetch("/enter", { method: "POST", body: form });
    const reply = await response.json();
    if (response.ok) {
      location.replace(reply.next);
      return "Signed in.";
    }
    return reply.problem;
  } catch {
    return "The server did not answer. Open the link again in a moment.";
  }
}

state.textContent = await enter();
document.querySelector("#other").hidden = state.textContent === "Signed in.";
