// The list of conversations: counts that the page did not wait for, columns moved up and down, menus that close.

// How many there are, where the page came with an estimate.
async function count(place) {
    const answer = await fetch(place.dataset.count, { headers: { Accept: "application/json" } });
    if (answer.ok) {
        const { size } = await answer.json();
        for (const each of document.querySelectorAll("[data-size]")) {
            each.textContent = size;
        }
    }
}

document.querySelectorAll("[data-count]").forEach(count);

document.addEventListener("click", function (event) {
    const button = event.target.closest("[data-move]");
    if (button) {
        const row = button.closest("li");
        if (button.dataset.move === "up") {
            row.previousElementSibling?.before(row);
        } else {
            row.nextElementSibling?.after(row);
        }
        button.focus();
    }
    for (const menu of document.querySelectorAll(".rl-pop[open]")) {
        if (!menu.contains(event.target)) {
            menu.open = false;
        }
    }
});

document.addEventListener("keydown", function (event) {
    const menu = event.key === "Escape" && document.querySelector(".rl-pop[open]");
    if (menu) {
        menu.open = false;
        menu.querySelector("summary").focus();
    }
});
