// Keeps the page of a rebuild up to date while it runs: its figures every second, all of it when its state changes.
async function look() {
    const page = document.getElementById("rl-rebuild");
    const url = page && page.dataset.progressUrl;
    if (!url) {
        return;
    }
    try {
        const answer = await fetch(url);
        if (answer.redirected || !answer.ok) {
            return; // signed out, or no longer allowed: a reload will say so
        }
        await show(page, await answer.json());
    } catch {
        // The server is away for a moment.
    }
    setTimeout(look, 1000);
}

async function show(page, now) {
    for (const name of ["read", "changed"]) {
        page.querySelector(`[data-show=${name}]`).textContent = now[name];
    }
    const bar = page.querySelector("progress");
    if (now.total) {
        bar.max = now.total;
        bar.value = now.done;
    }
    if (now.state !== page.dataset.state) {
        const fresh = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
        const article = fresh.getElementById("rl-rebuild");
        if (article) {
            page.replaceWith(article);
        }
    }
}

look();
