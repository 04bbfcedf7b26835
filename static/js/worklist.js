// The list of missed callers: kept up to date while nobody works in it; arrow keys lead from entry to entry.
async function refresh() {
    const list = document.getElementById("rl-worklist");
    if (!document.hidden && !list.contains(document.activeElement)) {
        try {
            const answer = await fetch(location.href, { credentials: "same-origin" });
            if (answer.redirected || !answer.ok) {
                return; // signed out, or no longer allowed: a reload will say so
            }
            const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
            if (!list.contains(document.activeElement)) {
                list.replaceWith(document.adoptNode(fresh.getElementById("rl-worklist")));
            }
        } catch {
            // The server is away for a moment.
        }
    }
    setTimeout(refresh, 15000);
}

setTimeout(refresh, 15000);

document.addEventListener("keydown", function (event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const row = event.target.closest(".rl-worklist tbody tr");
    if (!step || !row) {
        return;
    }
    const links = [...document.querySelectorAll(".rl-worklist-open")];
    const next = links[links.indexOf(row.querySelector(".rl-worklist-open")) + step];
    if (next) {
        event.preventDefault();
        next.focus();
    }
});
