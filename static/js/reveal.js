// Buttons with data-reveal ask for the number in full, which is written in the audit log, and put it in its place.
document.addEventListener("click", async function (event) {
    const button = event.target.closest("[data-reveal]");
    if (!button || button.disabled) {
        return;
    }
    event.preventDefault();
    button.disabled = true;
    const place = button.previousElementSibling;
    try {
        const token = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/);
        const answer = await fetch(button.dataset.reveal, { method: "POST", headers: { "X-CSRFToken": token ? token[1] : "" } });
        const found = await answer.json();
        if (answer.ok) {
            place.textContent = found.number;
            place.tabIndex = -1;
            place.focus();
            button.remove();
            return;
        }
        say(button, found.problem);
    } catch {
        say(button, "The number could not be had. Try again.");
    }
    button.disabled = false;
});

function say(button, problem) {
    let place = button.nextElementSibling;
    if (!place) {
        place = document.createElement("span");
        place.className = "rl-reveal-problem";
        place.setAttribute("role", "alert");
        button.after(place);
    }
    place.textContent = problem;
}
