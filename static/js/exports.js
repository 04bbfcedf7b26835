// The page of exports: progress every second while something is under way. The menu of a list: closes as menus do.
async function look() {
    const list = document.getElementById("rl-exports");
    if (!list || !list.querySelector("[data-state=queued], [data-state=running]")) {
        return;
    }
    try {
        const answer = await fetch("?part=1");
        if (answer.redirected || !answer.ok) {
            return; // signed out, or no longer allowed: a reload will say so
        }
        show(list, new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
        // The server is away for a moment.
    }
    setTimeout(look, 1000);
}

function show(list, fresh) {
    for (const article of list.querySelectorAll("[data-state=queued], [data-state=running]")) {
        const now = fresh.getElementById(article.id);
        if (now && now.dataset.state === article.dataset.state) {
            // Left in place, so that whoever is on the button stays there.
            article.querySelector("[data-show]").replaceWith(now.querySelector("[data-show]"));
            const [bar, value] = [article.querySelector("progress"), now.querySelector("progress").getAttribute("value")];
            if (value !== null) {
                bar.setAttribute("value", value);
            }
        } else if (now) {
            const wasHere = article.contains(document.activeElement);
            article.replaceWith(now);
            if (wasHere) {
                now.querySelector("a, button").focus();
            }
            const [name, word] = [now.querySelector("h3").textContent, now.querySelector(".rl-word").textContent];
            document.getElementById("rl-exports-news").textContent = `${name}: ${word}`;
        }
    }
}

look();

for (const menu of document.querySelectorAll("details.rl-menu")) {
    const close = () => { menu.open = false; };
    menu.addEventListener("submit", () => setTimeout(close));
    menu.addEventListener("keydown", (event) => {
        if (event.key === "Escape" && menu.open) {
            close();
            menu.querySelector("summary").focus();
        }
    });
    document.addEventListener("click", (event) => {
        if (!menu.contains(event.target)) {
            close();
        }
    });
}
