// Buttons with data-copy put that text on the clipboard; buttons with data-confirm ask before their form is sent.
document.addEventListener("click", function (event) {
    const button = event.target.closest("[data-copy], [data-confirm]");
    if (!button) {
        return;
    }
    if (button.dataset.confirm && !window.confirm(button.dataset.confirm)) {
        event.preventDefault();
    }
    if (button.dataset.copy) {
        copy(button);
    }
});

async function copy(button) {
    try {
        await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
        // Plain http on another machine has no clipboard: mark the text, so that it can be copied by hand.
        button.parentElement.querySelector("input").select();
        return;
    }
    const label = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 2000);
}
